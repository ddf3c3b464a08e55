"""The agent and the gateway: what is told, when, and what becomes of the scheduler when nobody listens."""

from __future__ import annotations

from tests.compat.lab import SCRIPTS, Lab
from tests.support import eventually


async def test_the_first_report_comes_when_the_scheduler_listens(lab: Lab) -> None:
    """The report that decides how fast a cluster starts waits for nothing, and says where the scheduler listens."""
    await lab.start_scheduler()
    await lab.wait_for_log("scheduler", r"Scheduler at:", timeout=30)
    report = await lab.gateway.until(lambda report: report.port)

    assert report.attempt == 1
    assert f":{report.port}" in await lab.wait_for_log("scheduler", r"Scheduler at:(.*)")
    assert f":{report.dashboard_port}/" in await lab.wait_for_log("scheduler", r"dashboard at:(.*)")
    assert report.workers == report.retired == []


async def test_versions_are_those_of_the_cluster(lab: Lab) -> None:
    """A client can compare its own Python and Dask with the cluster's before it connects."""
    await lab.scheduler()
    script = "import platform, dask, distributed; print(platform.python_version(), dask.__version__)"
    process = await lab.start("versions", "-c", script)
    out, _ = await process.communicate()

    versions = lab.gateway.last.versions
    assert out.decode().split() == [versions["python"], versions["dask"]]
    assert {"distributed", "cloudpickle", "msgpack", "tornado", "numpy", "pandas"} <= versions.keys()


async def test_workers_are_reported_when_they_come(lab: Lab) -> None:
    """Ten workers that register in a burst are all known a moment later, and those with foreign names are left out."""
    await lab.scheduler()
    names = [f"default-{n}" for n in range(1, 11)]
    await lab.gateway.want({"default": (10, None, None)})
    await lab.workers("by-hand", "other-1", "default-x", "7", *names)

    report = await lab.gateway.until(lambda report: len(report.workers) == 10)
    assert sorted(report.workers) == sorted(names)


async def test_of_many_workers_the_first_and_the_last_are_told_at_once(lab: Lab) -> None:
    """Who comes in between is told of with the last, or after a while, which here is longer than the test."""
    await lab.start_with_timing(gather=1000.0)
    await lab.reported()
    await lab.gateway.want({"default": (3, None, None)})
    await lab.workers("default-1")
    await lab.workers("other-1")
    await lab.wait_for_log("scheduler", "name: other-1")
    await lab.workers("default-2", "default-3")

    numbers = [len(report.workers) for report in lab.gateway.reports]
    assert {1, 3} <= set(numbers)
    assert 2 not in numbers


async def test_who_came_is_told_after_a_while_when_others_do_not_come(lab: Lab) -> None:
    """Two of three; here the while is half a second."""
    await lab.scheduler()
    await lab.gateway.want({"default": (3, None, None)})
    await lab.workers("default-1")

    await lab.workers("default-2")


async def test_a_worker_that_dies_is_reported_as_gone(lab: Lab) -> None:
    """What is not there any more is not reported, and was not retired."""
    await lab.scheduler()
    await lab.gateway.want({"default": (1, None, None)})
    await lab.workers("default-1")
    lab.kill("workers-default-1")

    report = await lab.gateway.until(lambda report: not report.workers)
    assert report.retired == []


async def test_the_computation_goes_on_while_the_gateway_is_away(lab: Lab) -> None:
    """Neither cut connections nor a proxy's error pages end anything; the news is told when the gateway is back."""
    await lab.start_with_timing(backoff=(0.1, 0.5))
    await lab.reported()
    await lab.gateway.want({"default": (2, None, None)})
    await lab.workers("default-1")
    for how in ("cut", "502"):
        await lab.gateway.go_away(how)
        asked = lab.gateway.asked
        client = await lab.client("say(str(client.submit(sum, [1, 2, 3]).result()))")
        await client.hear("6")
        await eventually(lambda asked=asked: lab.gateway.asked > asked + 2, what="the agent tries again")
        before = len(lab.gateway.reports)
        lab.gateway.come_back()
        await eventually(lambda before=before: len(lab.gateway.reports) > before, what="a report")
        await lab.wait_for_log("scheduler", "answers again")
    assert lab.is_running("scheduler")


async def test_workers_that_came_while_the_gateway_was_away_are_told_afterwards(lab: Lab) -> None:
    """The whole state is reported, so nothing is lost in between."""
    await lab.start_with_timing(backoff=(0.1, 0.5))
    await lab.reported()
    await lab.gateway.want({"default": (2, None, None)})
    await lab.workers("default-1")
    await lab.gateway.go_away("cut")
    await lab.start("late", str(SCRIPTS / "workers.py"), lab.address, "1", "default-2")
    await lab.wait_for_log("scheduler", r"[Rr]egister worker.*default-2")
    lab.gateway.come_back()

    await lab.gateway.until(lambda report: set(report.workers) == {"default-1", "default-2"})


async def test_the_gateway_ends_the_scheduler(lab: Lab) -> None:
    """``exit`` closes the scheduler cleanly and its process with it."""
    await lab.scheduler()
    await lab.gateway.want(exit=True)

    assert await lab.exit_status("scheduler") == 0
    await lab.wait_for_log("scheduler", "does not want this cluster any more")


async def test_a_thread_that_never_ends_does_not_keep_the_process(lab: Lab) -> None:
    """What a user left running in the scheduler delays the end by some seconds, here half a one, not for ever."""
    await lab.start_with_timing(end=0.5)
    await lab.reported()
    script = (
        "import threading; client.run_on_scheduler(lambda: threading.Thread(target=threading.Event().wait).start())"
    )
    client = await lab.client(f"{script}; say('left')")
    await client.hear("left")
    await lab.gateway.want(exit=True)

    assert await lab.exit_status("scheduler") == 0


async def test_an_older_attempt_ends_at_once(lab: Lab) -> None:
    """A scheduler that comes late, after another was launched in its place, is told so by the first reply."""
    lab.gateway.attempt = 2
    await lab.start_scheduler(attempt=1)

    assert await lab.exit_status("scheduler") == 0
    assert lab.gateway.last.attempt == 1


async def test_a_refused_token_ends_nothing_for_a_while(lab: Lab) -> None:
    """A gateway that has forgotten the cluster may remember it again, as after the restore of a database."""
    lab.gateway.token = "another"
    await lab.start_scheduler()
    await eventually(lambda: lab.gateway.refused > 3, timeout=30, what="refused requests")
    assert lab.is_running("scheduler")
    lab.gateway.token = lab.token

    await lab.gateway.until(lambda report: report.port)


async def test_a_cluster_that_stays_unknown_ends(lab: Lab) -> None:
    """After a grace time, here half a second, an agent that is always refused ends its scheduler and says why."""
    lab.gateway.token = "another"
    await lab.start_with_timing(refused=0.5)

    assert await lab.exit_status("scheduler") == 0
    await lab.wait_for_log("scheduler", "has not known this cluster for 0.5 s")


async def test_without_news_the_agent_reports_now_and_then(lab: Lab) -> None:
    """The heartbeat, here every tenth of a second."""
    await lab.start_with_timing(heartbeat=0.1)
    await eventually(lambda: len(lab.gateway.reports) >= 5, timeout=30, what="five reports")

    assert all(report == lab.gateway.reports[0] for report in lab.gateway.reports)
