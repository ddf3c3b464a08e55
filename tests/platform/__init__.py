"""The platform in one command, as its users have it. ``make test-platform`` installs what that takes, and runs this."""
