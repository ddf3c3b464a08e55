"""Clusters in version 2: the whole life of one, as a program sees it."""

from __future__ import annotations

import pytest

from tests.in_process import NOW, Gateway, names_of
from tidegate.model.cluster import Adaptive, ClusterState, Reason, Target, Worker, WorkerGroup, WorkerState

URL = "/api/v2/clusters"


async def test_creation_answers_with_the_resource_and_its_place(gateway: Gateway) -> None:
    """201, Location, and everything that is known so far."""
    reply = await gateway.client("alice", **{"X-Forwarded-Prefix": "/services/dask"}).post(
        URL, json={"options": {"worker_cores": 2}, "hints": {"python": "/opt/py", "versions": {"dask": "2026.8.0"}}}
    )
    cluster = reply.json()

    assert reply.status_code == 201
    assert reply.headers["location"] == f"/services/dask/api/v2/clusters/{cluster['name']}"
    assert cluster == {
        "name": cluster["name"],
        "alias": None,
        "labels": {},
        "owner": "alice",
        "state": "requested",
        "target": "running",
        "created_at": NOW,
        "started_at": None,
        "stopped_at": None,
        "options": {
            "worker_cores": 2,
            "worker_memory": 2.0,
            "environment": "notebook",
            "queue": "long",
            "profile": False,
        },
        "groups": [
            {
                "name": "default",
                "wanted": 0,
                "adaptive": None,
                "running": 0,
                "starting": 0,
                "failures": 0,
                "trouble": None,
            }
        ],
        "workers": {"wanted": 0, "running": 0, "starting": 0},
        "max_workers": 20,
        "max_workers_reason": "this machine has 8 cores",
        "reason": None,
        "versions": {},
        "scheduler": {"sni": f"daskgateway-{cluster['name']}"},
        "dashboard_link": None,
        "notes": [],
        "ending": None,
        "waiting": None,
        "note": None,
        "mine": True,
        "rights": ["see", "connect", "scale", "stop", "logs", "dashboard", "share"],
        "shares": [],
        "links": [],
    }
    recorded = await gateway.store.load(cluster["name"])
    assert recorded.spec.extra["hints"] == {"python": "/opt/py", "version.dask": "2026.8.0"}


async def test_an_empty_body_takes_the_defaults(gateway: Gateway) -> None:
    """Neither options nor hints are needed."""
    bodies: list[dict[str, object]] = [{}, {"options": None}, {"options": {}}]
    for body in bodies:
        assert (await gateway.client("alice").post(URL, json=body)).status_code == 201


async def test_a_repeated_request_finds_the_first_cluster(gateway: Gateway) -> None:
    """The same key of the same owner; another owner's key is another key."""
    key = {"Idempotency-Key": "notebook-1"}
    first = await gateway.client("alice", **key).post(URL, json={})
    again = await gateway.client("alice", **key).post(URL, json={})
    other = await gateway.client("mallory", **key).post(URL, json={})

    assert first.json()["name"] == again.json()["name"] != other.json()["name"]
    assert again.status_code == 201
    assert len((await gateway.client("alice").get(URL)).json()["clusters"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "é"])
async def test_a_key_that_is_none_is_refused(gateway: Gateway, key: str) -> None:
    """422: a key that is cut or altered on the way would be somebody else's."""
    reply = await gateway.client("alice").post(URL, json={}, headers=[(b"Idempotency-Key", key.encode())])

    assert reply.status_code == 422
    assert reply.json()["error"]["field"].lower() == "idempotency-key"


async def test_the_list_is_paged_newest_first(gateway: Gateway) -> None:
    """Each cluster comes exactly once, also where several were created in the same moment."""
    made = []
    for number in range(7):
        gateway.clock.now = NOW + number // 2
        made.append((await gateway.create()).name)
    client = gateway.client("alice")
    pages, cursor = [], ""
    while True:
        page = (await client.get(f"{URL}?limit=3{cursor}")).json()
        pages.append(names_of(page["clusters"]))
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert [len(page) for page in pages] == [3, 3, 1]
    listed = [name for page in pages for name in page]
    assert sorted(listed) == sorted(made)
    assert listed[0] == made[-1]


async def test_the_list_can_be_filtered_by_state(gateway: Gateway) -> None:
    """Single states, several, and the two words for the rest of us."""
    running, failed, requested = [(await gateway.create()).name for _ in range(3)]
    await gateway.become_running(running)
    await gateway.become_failed(failed)
    client = gateway.client("alice")

    async def listed(state: str) -> set[str]:
        return set(names_of((await client.get(f"{URL}?state={state}")).json()["clusters"]))

    assert await listed("running") == {running}
    assert await listed("running,failed") == {running, failed}
    assert await listed("active") == {running, requested}
    assert await listed("ended") == {failed}
    assert len((await client.get(URL)).json()["clusters"]) == 3


async def test_a_running_cluster_shows_its_parts(gateway: Gateway) -> None:
    """Groups with their counts, versions of the scheduler, the way to the dashboard, what is wrong with workers."""
    cluster = await gateway.create()
    trouble = Reason("out-of-memory", "The worker used more memory than its limit", "secret detail", "MemoryError")
    running = await gateway.become_running(cluster.name, workers=2)
    group = WorkerGroup("default", wanted=3, adaptive=Adaptive(1, 5), launched=3, failures=1, trouble=trouble)
    starting = Worker("default-3", state=WorkerState.STARTING)
    await gateway.change(cluster.name, groups=(group,), workers=(*running.workers, starting))

    reply = await gateway.client("alice").get(f"{URL}/{cluster.name}")
    shown = reply.json()

    assert shown["state"] == "running"
    assert shown["groups"] == [
        {
            "name": "default",
            "wanted": 3,
            "adaptive": {"minimum": 1, "maximum": 5},
            "running": 2,
            "starting": 1,
            "failures": 1,
            "trouble": {"code": "out-of-memory", "message": trouble.message, "log_tail": "MemoryError"},
        }
    ]
    assert shown["workers"] == {"wanted": 3, "running": 2, "starting": 1}
    assert shown["versions"] == {"python": "3.12.1", "distributed": "2026.8.0"}
    assert shown["dashboard_link"] == f"/clusters/{cluster.name}/status"
    assert shown["notes"] == ["Workers do not stay: The worker used more memory than its limit"]
    assert "secret detail" not in reply.text


async def test_a_failed_cluster_keeps_its_reason(gateway: Gateway) -> None:
    """Code, sentence and log; the operator's detail is not for users, and lists leave the log out."""
    cluster = await gateway.create()
    await gateway.become_failed(cluster.name)
    client = gateway.client("alice")

    one = await client.get(f"{URL}/{cluster.name}")
    listed = (await client.get(URL)).json()["clusters"][0]

    assert one.json()["reason"] == {
        "code": "scheduler-exited",
        "message": "The scheduler ended by itself: exit code 1",
        "log_tail": "ModuleNotFoundError: no <dask>",
    }
    assert "secret detail" not in one.text
    assert listed["reason"]["log_tail"] == ""
    assert listed["reason"]["message"] == one.json()["reason"]["message"]


async def test_facts_of_an_older_launch_are_not_shown(gateway: Gateway) -> None:
    """What an earlier attempt reported says nothing about this one."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    await gateway.change(cluster.name, attempt=2, state=ClusterState.STARTING)

    shown = (await gateway.client("alice").get(f"{URL}/{cluster.name}")).json()

    assert shown["versions"] == {}
    assert shown["dashboard_link"] is None


async def test_the_size_is_patched_by_hand_and_by_the_load(gateway: Gateway) -> None:
    """Workers turn adaptive off, adaptive sets bounds, null turns it off; a limit is told in a note."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    client = gateway.client("alice")

    async def patch(**body: object) -> dict[str, object]:
        reply = await client.patch(f"{URL}/{cluster.name}", json=body)
        assert reply.status_code == 200, reply.text
        answer: dict[str, object] = reply.json()
        return answer

    adapted = await patch(adaptive={"minimum": 2, "maximum": 4})
    assert adapted["groups"][0]["adaptive"] == {"minimum": 2, "maximum": 4}  # type: ignore[index]
    assert adapted["workers"]["wanted"] == 2  # type: ignore[index]
    assert adapted["note"] is None
    unbounded = await patch(adaptive={})
    assert unbounded["groups"][0]["adaptive"] == {"minimum": 0, "maximum": 20}  # type: ignore[index]
    fixed = await patch(adaptive=None)
    assert fixed["groups"][0]["adaptive"] is None  # type: ignore[index]
    clamped = await patch(workers=10**9, group="default")
    assert clamped["workers"]["wanted"] == 20  # type: ignore[index]
    assert "Scaling to 20 instead. (this machine has 8 cores)" in str(clamped["note"])


async def test_what_is_not_running_cannot_be_patched(gateway: Gateway) -> None:
    """409 with a code."""
    cluster = await gateway.create()

    reply = await gateway.client("alice").patch(f"{URL}/{cluster.name}", json={"workers": 1})

    assert reply.status_code == 409
    assert reply.json()["error"]["code"] == "conflict"


async def test_stopping_is_accepted_and_then_done(gateway: Gateway) -> None:
    """202 with the resource while it goes, 204 when it is gone, 404 for what is not there."""
    cluster = await gateway.create()
    client = gateway.client("alice")

    first = await client.delete(f"{URL}/{cluster.name}")
    again = await client.delete(f"{URL}/{cluster.name}")
    await gateway.change(cluster.name, state=ClusterState.STOPPED)
    gone = await client.delete(f"{URL}/{cluster.name}")
    absent = await client.delete(f"{URL}/nonsense")

    assert [r.status_code for r in (first, again, gone, absent)] == [202, 202, 204, 404]
    assert first.json()["target"] == "stopped"
    assert gone.content == b""
    assert (await gateway.store.load(cluster.name)).target is Target.STOPPED


async def test_credentials_are_handed_out_and_kept_nowhere(gateway: Gateway) -> None:
    """The client's certificate with its authority and its key, marked as not to be stored."""
    cluster = await gateway.create()
    reply = await gateway.client("alice").get(f"{URL}/{cluster.name}/credentials")
    credentials = await gateway.store.credentials(cluster.name)

    assert reply.headers["cache-control"] == "no-store"
    assert reply.json()["sni"] == f"daskgateway-{cluster.name}"
    assert reply.json()["certificate"].count("BEGIN CERTIFICATE") == 2
    assert reply.json()["key"] == credentials.client_key
    assert credentials.ca_key not in reply.text


async def test_an_ended_cluster_has_no_credentials(gateway: Gateway) -> None:
    """They end with it: 409 says so."""
    cluster = await gateway.create()
    await gateway.become_failed(cluster.name)

    reply = await gateway.client("alice").get(f"{URL}/{cluster.name}/credentials")

    assert reply.status_code == 409


async def test_logs_come_by_process(gateway: Gateway) -> None:
    """The scheduler's first; as many lines as asked for."""
    cluster = await gateway.create()

    logs = (await gateway.client("alice").get(f"{URL}/{cluster.name}/logs?lines=1")).json()["logs"]

    assert logs == [
        {"process": "scheduler", "text": "scheduler line\n"},
        {"process": "default-1", "text": "<b>worker</b> line"},
    ]


async def test_options_carry_all_that_a_form_needs(gateway: Gateway) -> None:
    """In the administrator's order."""
    options = (await gateway.client("alice").get("/api/v2/options")).json()["options"]

    assert [option["name"] for option in options][:2] == ["worker_cores", "worker_memory"]
    assert options[0] == {
        "name": "worker_cores",
        "kind": "integer",
        "default": 1,
        "label": "Worker cores",
        "help": "Threads of one worker.",
        "minimum": 1,
        "maximum": 8,
        "unit": "",
        "choices": [],
        "labels": [],
        "patterns": [],
        "fixed": False,
        "secret": False,
    }
    assert options[3]["fixed"] is True
