"""Where clusters run. One file or folder for each backend, one protocol (``base``), one contract test suite."""
