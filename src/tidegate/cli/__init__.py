"""The command line, one file for each command.

``clusters``, ``version`` and ``tour`` are a user's, and stand on the client alone; ``serve`` and ``config`` are the
operator's, and need the extra ``server``. A command is imported when it is called (``main.py``).
"""
