"""Records, decides, does: what users can ask, and the loop that makes it so."""
