"""Scaling from within: workers that are too many go without a result being lost, and the load asks for more."""

from __future__ import annotations

import time

from tests.compat.lab import Lab
from tests.support import eventually

HOLD_RESULTS = """
futures = client.map(lambda n: n * 1000, range(40))
[kept] = client.scatter([list(range(1000))])
from distributed import wait as wait_for
wait_for(futures)
say("computed")
wait()
print(sum(client.gather(futures)), sum(kept.result()), flush=True)
"""
QUICK = {"DASK_DISTRIBUTED__ADAPTIVE__INTERVAL": "500ms"}
KEPT_RESULTS = f"{sum(n * 1000 for n in range(40))} {sum(range(1000))}"


async def test_scaling_down_loses_no_result(lab: Lab) -> None:
    """Results and scattered data on workers that go are on others afterwards; the names that went are reported."""
    await lab.scheduler()
    await lab.gateway.want({"default": (4, None, None)})
    await lab.workers("default-1", "default-2", "default-3", "default-4")
    client = await lab.client(HOLD_RESULTS)
    await client.hear("computed")
    await lab.gateway.want({"default": (1, None, None)})
    report = await lab.gateway.until(lambda report: len(report.workers) == 1 and len(report.retired) == 3)
    client.say()
    await client.hear(KEPT_RESULTS)

    assert set(report.workers) | set(report.retired) == {f"default-{n}" for n in range(1, 5)}
    assert "lost" not in lab.log("scheduler").read_text()


async def test_scaling_down_while_tasks_run_repeats_them_elsewhere(lab: Lab) -> None:
    """A computation under way finishes with the right result."""
    await lab.scheduler()
    await lab.gateway.want({"default": (3, None, None)})
    await lab.workers("default-1", "default-2", "default-3")
    script = """
import time
futures = client.map(lambda n: time.sleep(0.05) or n, range(30), pure=False)
say("running")
print(sum(client.gather(futures)), flush=True)
"""
    client = await lab.client(script)
    await client.hear("running")
    await lab.gateway.want({"default": (1, None, None)})
    await lab.gateway.until(lambda report: len(report.retired) == 2)

    await client.hear(str(sum(range(30))))


async def test_the_last_worker_stays_while_it_holds_results(lab: Lab) -> None:
    """Nobody else could take them: it is kept, not reported as retired, and goes when they are not needed any more."""
    await lab.start_with_timing(retry=0.2)
    await lab.reported()
    await lab.gateway.want({"default": (1, None, None)})
    await lab.workers("default-1")
    client = await lab.client(HOLD_RESULTS + "\ndel kept\ndel futures\nclient.submit(len, [])\nwait()\n")
    await client.hear("computed")
    await lab.gateway.want({"default": (0, None, None)})
    await lab.wait_for_log("scheduler", "default keeps 1 workers too many")
    assert lab.gateway.last.retired == []
    client.say()
    await client.hear(KEPT_RESULTS)

    report = await lab.gateway.until(lambda report: report.retired)
    assert report.retired == ["default-1"]


async def test_workers_of_others_are_left_alone(lab: Lab) -> None:
    """A worker that the user started by hand is neither counted nor retired."""
    await lab.scheduler()
    await lab.gateway.want({"default": (2, None, None), "gpu": (1, None, None)})
    await lab.workers("mine", "default-1", "default-2", "gpu-1")
    await lab.gateway.until(lambda report: len(report.workers) == 3)
    await lab.gateway.want({"default": (0, None, None), "gpu": (1, None, None)})
    report = await lab.gateway.until(lambda report: len(report.retired) == 2)

    assert set(report.retired) == {"default-1", "default-2"}
    assert report.workers == ["gpu-1"]
    assert "Retired worker" in lab.log("scheduler").read_text()
    client = await lab.client(
        "print(sorted(w['name'] for w in client.scheduler_info()['workers'].values()), flush=True)"
    )
    await client.hear("['gpu-1', 'mine']")


async def test_nothing_is_retired_while_the_gateway_is_away(lab: Lab) -> None:
    """The gateway must know the smaller size first, or it would replace what has gone."""
    lab.environment.update(QUICK)
    await lab.start_with_timing(backoff=(0.1, 0.5))
    await lab.reported()
    await lab.gateway.want({"default": (2, None, None)})
    await lab.workers("default-1", "default-2")
    await lab.gateway.go_away("reports")
    # Adaptive only now: without work the demand falls within two seconds, and workers may take longer to come.
    await lab.gateway.want({"default": (2, 0, 2)})
    # The demand falls, which the gateway does not take note of, however often it is told.
    told = lab.gateway.lost
    await eventually(lambda: sum(report.demand == {"default": 0} for report in told) > 2, timeout=30)
    assert all(len(report.workers) == 2 and report.retired == [] for report in told)
    lab.gateway.come_back()

    report = await lab.gateway.until(lambda report: len(report.retired) == 2)
    assert report.demand == {"default": 0}


async def test_a_task_raises_the_demand_at_once(lab: Lab) -> None:
    """From no worker at all, and because the task came: the next regular look would be a minute later."""
    await lab.scheduler(DASK_DISTRIBUTED__ADAPTIVE__INTERVAL="60s")
    await lab.gateway.want({"default": (0, 0, 3)})
    await lab.gateway.until(lambda report: report.demand == {"default": 0})
    client = await lab.client("say('ready'); wait(); print(client.submit(sum, [1, 2]).result(), flush=True)")
    await client.hear("ready")
    client.say()
    await lab.gateway.until(lambda report: report.demand == {"default": 1})
    await lab.workers("default-1")

    await client.hear("3")


async def test_much_work_asks_for_no_more_than_the_maximum(lab: Lab) -> None:
    """A thousand long tasks ask for the maximum, and the minimum is asked for from the first moment."""
    await lab.scheduler()
    await lab.gateway.want({"default": (0, 1, 3)})
    await lab.gateway.until(lambda report: report.demand == {"default": 1})
    client = await lab.client("import time; f = client.map(time.sleep, [5] * 1000, pure=False); say('sent'); wait()")
    await client.hear("sent")

    await lab.gateway.until(lambda report: report.demand == {"default": 3})
    assert max(report.demand.get("default", 0) for report in lab.gateway.reports) == 3


async def test_the_demand_falls_only_after_several_looks(lab: Lab) -> None:
    """After the work the demand stays for three looks, here two a second, then falls to the minimum; results stay."""
    await lab.scheduler(**QUICK)
    await lab.gateway.want({"default": (3, None, None)})
    await lab.workers("default-1", "default-2", "default-3")
    busy = "import time; f = client.map(lambda n: time.sleep(2), range(3), pure=False); say('busy'); client.gather(f)\n"
    client = await lab.client(HOLD_RESULTS.replace("say(", busy + "say("))
    await client.hear("busy")
    await lab.gateway.want({"default": (3, 1, 3)})
    await client.hear("computed")
    computed = time.monotonic()
    await lab.gateway.until(lambda report: report.demand["default"] < 3)
    assert time.monotonic() - computed > 0.5
    await lab.gateway.until(lambda report: report.demand == {"default": 1})
    report = await lab.gateway.until(lambda report: len(report.retired) == 2)
    assert len(report.workers) == 1
    client.say()

    await client.hear(KEPT_RESULTS)


async def test_new_bounds_hold_at_once(lab: Lab) -> None:
    """A smaller maximum lowers the demand without waiting; going back to a size by hand ends the demand."""
    await lab.scheduler()
    await lab.gateway.want({"default": (5, 5, 9)})
    await lab.gateway.until(lambda report: report.demand == {"default": 5})
    await lab.gateway.want({"default": (5, 0, 2)})
    await lab.gateway.until(lambda report: report.demand == {"default": 2})
    await lab.gateway.want({"default": (4, None, None)})

    await lab.gateway.until(lambda report: report.demand == {})


async def test_a_worker_that_is_quicker_than_the_news_of_it_stays(lab: Lab) -> None:
    """A worker may register before the agent hears that more are wanted: it is not taken for one too many."""
    await lab.scheduler()
    await lab.gateway.want({"default": (1, None, None)})
    await lab.workers("default-1")
    lab.gateway.is_slow = True
    await lab.gateway.want({"default": (2, None, None)})
    await lab.workers("default-2")
    asked = lab.gateway.asked
    await eventually(lambda: lab.gateway.asked > asked + 1, what="the agent asks what to do about the second worker")
    assert lab.gateway.last.retired == []
    lab.gateway.is_slow = False
    await lab.gateway.want({"default": (1, None, None)})

    await lab.gateway.until(lambda report: len(report.retired) == 1)
    assert lab.log("scheduler").read_text().count("Retire worker") == 1
