"""``python -m tidegate_keeper LAUNCH_FILE LOCK_FD``: see ``main.py``."""

# Guarded, because a task that starts a process by "spawn" imports the main module again.
if __name__ == "__main__":
    from .main import main

    main()
