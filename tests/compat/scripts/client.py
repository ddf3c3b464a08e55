"""A client that does what a test says, step by step: ``client.py ADDRESS SCRIPT``."""

import sys

from distributed import Client


def say(word: str) -> None:
    """Tell the test how far we are."""
    print(word, flush=True)


def wait() -> None:
    """Wait for the test's word to go on."""
    sys.stdin.readline()


if __name__ == "__main__":
    with Client(sys.argv[1]) as client:
        exec(sys.argv[2])
