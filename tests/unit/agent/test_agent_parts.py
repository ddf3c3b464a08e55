"""The parts of the agent that decide: what it is told, what it is handed, and how the load becomes a demand."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from distributed.http.routing import RoutingApplication
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.agent.conftest import FOLDER, GIVEN
from tidegate.model.report import Wanted
from tidegate.wire.agent import WantedBody
from tidegate.wire.names import DASHBOARD_HEADER

FILES = ("tidegate_agent.py", "tidegate_worker.py")


def test_demand_rises_at_once(agent: ModuleType) -> None:
    """Work that is there is worth a worker now."""
    demand = agent.Demand(1, looks=3)

    assert demand.look(7, counts=False)
    assert demand.size == 7


def test_demand_falls_to_the_most_of_the_last_looks(agent: ModuleType) -> None:
    """Three counted looks in a row must agree, and the highest of them decides."""
    demand = agent.Demand(9, looks=3)
    sizes = [demand.look(target, counts=True) and demand.size for target in (2, 5, 3, 1, 0)]

    assert sizes == [False, False, 5, False, 3]


def test_one_look_upwards_starts_the_wait_again(agent: ModuleType) -> None:
    """After a peak the demand stays for three looks more, however long it had been low before."""
    demand = agent.Demand(2, looks=3)
    for target in (1, 1, 5, 1, 1):
        demand.look(target, counts=True)
    assert demand.size == 5
    demand.look(1, counts=True)

    assert demand.size == 1


def test_looks_between_the_intervals_lower_nothing(agent: ModuleType) -> None:
    """A burst of events is not three seconds of calm."""
    demand = agent.Demand(4, looks=3)
    for _ in range(100):
        demand.look(0, counts=False)

    assert demand.size == 4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=40))
def test_the_demand_is_never_below_the_present_load(agent: ModuleType, looks: list[tuple[int, bool]]) -> None:
    """Whatever came before, a look leaves at least what the load asks for at that moment."""
    demand = agent.Demand(3, looks=3)
    for target, counts in looks:
        demand.look(target, counts)
        assert demand.size >= target


def test_the_wanted_state_is_read_as_the_gateway_writes_it(agent: ModuleType) -> None:
    """The JSON of the gateway's own model, with a size by hand and one by load."""
    body = WantedBody.from_model(Wanted(exit=False, groups={"default": (2, None, None), "gpu": (1, 0, 4)}))
    wanted = agent.Wanted.parse(body.model_dump_json().encode())

    assert wanted.version == body.version
    assert wanted.exit is False
    assert wanted.groups == {"default": agent.Size(2, None, None), "gpu": agent.Size(1, 0, 4)}
    assert [size.is_adaptive for size in wanted.groups.values()] == [False, True]
    assert [wanted.groups["gpu"].clamp(count) for count in (-1, 3, 9)] == [0, 3, 4]


def test_withdrawn_certificates_are_read_and_an_older_gateway_names_none(agent: ModuleType) -> None:
    """As numbers, since TLS writes them in other letters; where a gateway knows no shares, nothing is refused."""
    body = WantedBody.from_model(Wanted(False, {}, withdrawn=("ff", "0a")), "PEM")
    wanted = agent.Wanted.parse(body.model_dump_json().encode())
    assert (wanted.withdrawn, wanted.revocations) == ({255, 10}, "PEM")
    assert "PEM" not in repr(wanted)

    old = agent.Wanted.parse(b'{"version": "1", "exit": false, "groups": {}}')
    assert (old.withdrawn, old.revocations) == (frozenset(), "")


def test_what_is_withdrawn_is_news(agent: ModuleType) -> None:
    """An agent that waits is answered; the lists themselves, which are signed anew each time, are no news."""
    bodies = [
        WantedBody.from_model(Wanted(False, {}, withdrawn=serials), text)
        for serials, text in (((), ""), (("ff",), "one"), (("ff",), "two"))
    ]
    versions = [agent.Wanted.parse(body.model_dump_json().encode()).version for body in bodies]
    assert versions[0] != versions[1] == versions[2]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"version": "1", "exit": true}'])
def test_nonsense_is_no_order_to_exit(agent: ModuleType, body: bytes) -> None:
    """What is not the whole state, such as a proxy's error page with status 200, is refused as a whole."""
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        agent.Wanted.parse(body)


BAD = ["", "[]", '"dashboard_secret"', "{}", json.dumps(GIVEN | {"dashboard_secret": ""})]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", BAD)
def test_a_bad_agent_file_ends_the_process_with_a_sentence(
    load: Callable[..., ModuleType], file: str, content: str
) -> None:
    """Nothing starts that could not be guarded; the sentence names the file."""
    with pytest.raises(SystemExit, match=r"cannot start.*agent\.json"):
        load(file, content)


@pytest.mark.parametrize("file", FILES)
def test_the_body_may_run_many_times(load: Callable[..., ModuleType], file: str) -> None:
    """Each run replaces the guard of the one before, around the same original."""
    original = RoutingApplication.find_handler
    for _ in range(6):
        load(file)

    assert RoutingApplication.find_handler.tidegate_unguarded is original


def test_settings_show_no_secret(agent: ModuleType) -> None:
    """What is logged by accident gives nothing away."""
    assert GIVEN["token"] not in repr(agent.SETTINGS)
    assert GIVEN["dashboard_secret"] not in repr(agent.SETTINGS)


def test_both_files_hold_the_same_guard() -> None:
    """They travel apart, so what they share is written twice: word for word, with the gateway's name of the header."""
    shared = {"guard_http", "require_guard", "start_configured_preloads", "stop_configured_preloads"}
    texts = []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    for file in FILES:
        source = (FOLDER / file).read_text()
        functions = [node for node in ast.parse(source).body if isinstance(node, kinds)]
        texts.append({f.name: ast.get_source_segment(source, f) for f in functions if f.name in shared})
        assert f'HEADER = "{DASHBOARD_HEADER}"' in source

    assert texts[0] == texts[1]
    assert texts[0].keys() == shared


@pytest.mark.parametrize("file", FILES)
def test_the_files_need_only_dask_and_the_standard_library(file: str) -> None:
    """They run where nothing of ours is installed."""
    imported = set()
    for node in ast.walk(ast.parse((FOLDER / file).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            imported.add(node.module.partition(".")[0])

    assert imported - sys.stdlib_module_names == {"dask", "distributed", "tornado"}
