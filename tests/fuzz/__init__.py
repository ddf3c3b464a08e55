"""The long fuzzing: ``make fuzz``."""
