"""What a forked child sheds: tried in a process of its own, for the changes last as long as the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SHED = """
import json, os, signal, socket, sys
import distributed.utils, numpy.random
from tidegate.backends.local.keeper import children

distributed.utils._offload_executor.submit(int).result()  # now it has a thread, which no fork takes along
numpy.random.seed(1)
signal.signal(signal.SIGTERM, lambda *_: None)
lock = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
listener = socket.socket()
read_end, write_end = os.pipe()
children.become_keeper(lock)

if os.fork() == 0:
    own = socket.socket()
    facts = {
        "offload": distributed.utils._offload_executor.submit(lambda: 42).result(5),
        "listener": os.readlink(f"/proc/self/fd/{listener.fileno()}"),
        "lock": os.readlink(f"/proc/self/fd/{lock}"),
        "sigterm": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
        "draw": numpy.random.random(),
    }
    if os.fork() == 0:  # A child of the child keeps what the child has.
        facts["grandchild"] = os.readlink(f"/proc/self/fd/{own.fileno()}")
        os.write(write_end, json.dumps(facts).encode())
        os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
facts = json.loads(os.read(read_end, 10000))
facts["parent draws"] = numpy.random.random()
facts["parent listener"] = os.readlink(f"/proc/self/fd/{listener.fileno()}")
print(json.dumps(facts))
"""

MAIN_THREAD = """
import asyncio, json, multiprocessing, os, threading
from tidegate.backends.local.keeper import children

forked_by = []
os.register_at_fork(before=lambda: forked_by.append(threading.current_thread() is threading.main_thread()))
ends = []

def fork_in_a_thread():
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    ends.append(process.exitcode)

async def start_from_a_thread():
    thread = threading.Thread(target=fork_in_a_thread)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)

async def main():
    await start_from_a_thread()
    loop = asyncio.get_running_loop()
    children.become_keeper(-1)
    children.fork_on_main_thread(loop.call_soon_threadsafe)
    await start_from_a_thread()

asyncio.run(main())
print(json.dumps([forked_by, ends]))
"""


def run(script: str, *arguments: str) -> Any:
    """Run a script in a process of its own, and return what it prints."""
    command = [sys.executable, "-c", script, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def test_a_child_sheds_what_is_not_its_own(tmp_path: Path) -> None:
    """It goes on without its parent's threads, sockets, lock, handlers and random numbers; its children keep theirs."""
    facts = run(SHED, str(tmp_path / "lock"))
    assert facts["offload"] == 42
    assert facts["listener"] == facts["lock"] == "/dev/null"
    assert facts["sigterm"]
    assert facts["draw"] != facts["parent draws"]
    assert facts["grandchild"].startswith("socket:")
    assert facts["parent listener"].startswith("socket:")


def test_the_main_thread_forks_for_all() -> None:
    """A process that another thread starts is forked by the main one, where no lock of another thread is held."""
    assert run(MAIN_THREAD) == [[False, True], [0, 0]]
