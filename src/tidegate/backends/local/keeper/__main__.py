"""What ``python -m tidegate_keeper`` runs: with ``LAUNCH_FILE LOCK_FD`` a keeper, with ``--zygote FOLDER`` a zygote.

Both through this file, for a task that starts a process by "spawn" imports the main module again, and only one of this
name is spared that.
"""

# Guarded nonetheless: not every way of starting a process knows it.
if __name__ == "__main__":
    import sys

    if sys.argv[1] == "--zygote":
        from . import zygote

        zygote.main(sys.argv[2])
    else:
        from .main import main

        main(sys.argv[1], int(sys.argv[2]))
