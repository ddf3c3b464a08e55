"""How people prove who they are. One file each, one protocol (``base``), one contract test suite."""
