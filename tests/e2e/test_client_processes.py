"""Our own client over the life of processes: its own, and the gateway's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually_sync
from tidegate import ClusterStatus, Gateway, TokenAuth

pytestmark = pytest.mark.timeout(180)


def states(gateway: GatewayProcess) -> dict[str, ClusterStatus]:
    """Return the status of every cluster on record."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user:
        return {report.name: report.status for report in user.list_clusters(list(ClusterStatus))}


def slow_starts(folder: Path, seconds: float) -> str:
    """Return a configuration with which a cluster takes at least so long to start."""
    slow = folder / "python"
    slow.write_text(f'#!/bin/sh\nsleep {seconds}\nexec {sys.executable} "$@"\n')
    slow.chmod(0o700)
    config = folder / "gateway.yaml"
    backend = f"name: local, zygotes: 0, notebook_environment: false, environments: {{slow: {slow}}}"
    config.write_text(f"backend: {{{backend}}}")
    return str(config)


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that the program printed, or fail with what it complained of."""
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_cluster_ends_with_the_python_that_made_it(gateway: GatewayProcess, host: str) -> None:
    """Without `close()`, when the interpreter exits; then names can no longer be looked up, so they are remembered."""
    url = gateway.url.replace("127.0.0.1", host)
    done = gateway.run_python(
        "import os; from tidegate import Gateway, TokenAuth\n"
        f"cluster = Gateway({url!r}, auth=TokenAuth(os.environ['TOKEN'])).new_cluster()\n"
        "client = cluster.get_client(); print(client.submit(int).key and cluster.name)",
        TOKEN=gateway.token,
    )

    name = last_words(done)
    assert "Traceback" not in done.stderr
    assert states(gateway)[name] in (ClusterStatus.STOPPING, ClusterStatus.STOPPED)


def test_a_cluster_may_stay_behind(gateway: GatewayProcess) -> None:
    """With `shutdown_on_close=False`."""
    name = last_words(
        gateway.run_python("from tidegate import Gateway; print(Gateway().new_cluster(shutdown_on_close=False).name)")
    )

    assert states(gateway)[name] is ClusterStatus.RUNNING
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user:
        user.stop_cluster(name)


def test_ctrl_c_while_a_cluster_starts_leaves_none(make_gateway: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    """The half-made cluster is stopped before Python gives the prompt back."""
    gateway = make_gateway("--config", slow_starts(tmp_path, seconds=10)).start()
    # As at a terminal: whoever runs the tests in the background of a shell has them ignore SIGINT, and all they start.
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = subprocess.Popen(
        [sys.executable, "-c", f"{listen}; from tidegate import Gateway; Gateway().new_cluster()"],
        env=gateway.environ,
        cwd=gateway.home,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually_sync(lambda: states(gateway), 30, "the cluster was asked for")
    program.send_signal(signal.SIGINT)

    assert "KeyboardInterrupt" in program.communicate(timeout=30)[1]
    (state,) = states(gateway).values()
    assert state in (ClusterStatus.STOPPING, ClusterStatus.STOPPED)


def test_an_address_alone_is_enough(gateway: GatewayProcess) -> None:
    """`Client("gateway://...")`, with the credentials of the configuration; and after the end it says why not."""
    done = gateway.run_python(
        "from distributed import Client; from tidegate import Gateway\n"
        "gateway = Gateway(); name = gateway.submit(); gateway.connect(name).close()\n"
        "address = gateway.get_cluster(name).scheduler_address\n"
        "with Client(address) as client:\n"
        "    gateway.scale_cluster(name, 1); print(client.submit(sum, [20, 22]).result())\n"
        "gateway.stop_cluster(name)\n"
        "try: Client(address, timeout=10)\n"
        "except OSError as error: assert f'cluster {name}: it' in str(error) and 'stopped' in str(error)\n"
        "else: raise AssertionError\n"
        "print('done')"
    )

    assert last_words(done) == "done"
    assert "42" in done.stdout


def test_objects_live_through_a_restart_of_the_gateway(make_gateway: Callable[..., GatewayProcess]) -> None:
    """While it is away, requests wait for it; afterwards the object follows its cluster as before."""
    gateway = make_gateway().start()
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, user.new_cluster() as cluster:
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=60)
        with cluster.get_client() as client:
            kept = client.scatter({"a": 1})
            gateway.send(signal.SIGKILL)
            gateway.wait()
            gateway.launch()

            cluster.scale(2)  # sent to a gateway that is not there yet

            eventually_sync(lambda: len(cluster.scheduler_info["workers"]) == 2, 60)
            assert client.gather(kept) == {"a": 1}, "the connection to the scheduler was never cut"
        eventually_sync(lambda: gateway.says("Ctrl-C stops the gateway"), 60)


def test_a_gateway_without_our_token_is_refused_in_words(gateway: GatewayProcess) -> None:
    """Another user's configuration, or none."""
    wrong = "tdg_" + "x" * 43
    done = gateway.run_python(
        "import os; from tidegate import Gateway, TokenAuth\n"
        f"try: Gateway({gateway.url!r}, auth=TokenAuth({wrong!r})).list_clusters()\n"
        "except PermissionError as error: print(error)"
    )

    assert f"cannot log in at the gateway {gateway.url}" in done.stdout
    assert wrong not in done.stdout


def test_progress_is_shown_to_a_person_only(make_gateway: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    """In a terminal a line appears and goes; in a pipe there is nothing."""
    gateway = make_gateway("--config", slow_starts(tmp_path, seconds=2)).start()
    code = "from tidegate import Gateway; Gateway().new_cluster().shutdown()"
    assert gateway.run_python(code).stderr == ""

    ours, theirs = os.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        env=gateway.environ | {"TERM": "xterm", "COLUMNS": "120"},
        cwd=gateway.home,
        stdin=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # how a terminal says that the other side is gone
        pass
    finally:
        os.close(ours)

    assert program.wait(timeout=30) == 0
    assert b"Cluster " in shown
    assert b" s)" in shown
