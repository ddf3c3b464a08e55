"""What is measured: one file per group of rows, each with a function ``measure(rounds, recorder)``."""
