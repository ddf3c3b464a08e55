"""The dask-gateway protocol, version 1, as JSON: what the unmodified official client sends and expects.

The client passes a cluster report on as keyword arguments, so a report has **exactly** the eight keys of
``cluster_report``, the five status names are all there are, and ``start_time`` is never null. Everything richer is in
v2.
"""

from __future__ import annotations

import math
from typing import Any

from tidegate.model.cluster import Cluster, ClusterState, Target
from tidegate.model.errors import Invalid
from tidegate.model.offer import ChoiceLabels
from tidegate.model.options import Kind, Option

STATUSES = {
    "PENDING": frozenset({ClusterState.REQUESTED, ClusterState.STARTING}),
    "RUNNING": frozenset({ClusterState.RUNNING}),
    "STOPPING": frozenset({ClusterState.STOPPING}),
    "STOPPED": frozenset({ClusterState.STOPPED}),
    "FAILED": frozenset({ClusterState.FAILED}),
}
"""The five status names, and which of our states each stands for."""

ACTIVE = ("PENDING", "RUNNING")
"""What a list shows when nothing is asked for."""

_STATUS_OF = {state: name for name, states in STATUSES.items() for state in states}


def status_of(cluster: Cluster) -> str:
    """Return the status name. A cluster that is wanted away is STOPPING from the moment that this is recorded."""
    if cluster.target is Target.STOPPED and not cluster.state.ended:
        return "STOPPING"
    return _STATUS_OF[cluster.state]


def cluster_report(
    cluster: Cluster, labels: ChoiceLabels, credentials: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Return the report of a cluster; its choices by ``labels``, as the fields of that client have them.

    ``credentials`` are certificate and key of its client, for the one request that needs them; they are never part of
    a list. The scheduler's address is not sent: the client derives it from the name.
    """
    running = status_of(cluster) == "RUNNING"
    has_dashboard = running and cluster.scheduler is not None and cluster.scheduler.dashboard_port is not None
    certificate, key = credentials if credentials is not None and running else (None, None)
    return {
        "name": cluster.name,
        "dashboard_route": f"/clusters/{cluster.name}/status" if has_dashboard else None,
        "status": status_of(cluster),
        "start_time": _milliseconds(cluster.created_at),
        "stop_time": None if cluster.stopped_at is None else _milliseconds(cluster.stopped_at),
        "options": labels.told(cluster.options),
        "tls_cert": certificate,
        "tls_key": key,
    }


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def parse_statuses(text: str | None) -> list[str]:
    """Return the status names of a ``?status=`` query: comma-separated, in any case; the active ones if there is none.

    Raises
    ------
    Invalid
        For a name that is none of the five.
    """
    if text is None:
        return list(ACTIVE)
    names = [name.strip().upper() for name in text.split(",")]
    for name in names:
        if name not in STATUSES:
            raise Invalid(f"cannot list clusters by status {name[:40]!r}: choose among {', '.join(STATUSES)}")
    return names


def parse_wait(text: str | None) -> bool:
    """Return what ``?wait`` asks for: absent is no, empty is yes, a whole number is its truth, anything else is no."""
    if text is None:
        return False
    if text == "":
        return True
    try:
        return bool(int(text[:20]))
    except ValueError:
        return False


def option_field(option: Option) -> dict[str, Any]:
    """Return the field from which the official client builds its attribute and its widget.

    That client knows no fixed fields, units, patterns or labels: a fixed number has itself as both bounds, fixed text
    is a choice of one, the unit stands in the label, and labels stand for what is chosen. Texts of a pattern, and a
    fixed mapping, it lets one change, and the gateway refuses.
    """
    label = option.label or option.name
    if option.unit:
        label = f"{label} ({option.unit})"
    # A choice is said by what people read for it; what is secret is not shown.
    default = option.describe(option.default) if option.kind is Kind.CHOICE else option.told(option.default)
    return {"field": option.name, "label": label, "default": default, "spec": _spec(option)}


def _spec(option: Option) -> dict[str, Any]:
    match option.kind:
        case Kind.INTEGER:
            # The client insists that the bounds of an integer are integers.
            low, high = _bounds(option)
            return {"type": "int", "min": _whole(low, math.ceil), "max": _whole(high, math.floor)}
        case Kind.FLOAT:
            low, high = _bounds(option)
            return {"type": "float", "min": low, "max": high}
        case Kind.BOOLEAN:
            return {"type": "bool"}
        case Kind.CHOICE:
            labels = [option.describe(option.default)] if option.fixed else list(option.all_choices.values())
            return {"type": "select", "options": labels}
        case Kind.STRING:
            return {"type": "select", "options": [option.default]} if option.fixed else {"type": "string"}
        case Kind.MAPPING:
            return {"type": "mapping"}


def _bounds(option: Option) -> tuple[float | None, float | None]:
    """Return the bounds, with the default within them: that client refuses one outside, which a profile may set."""
    default, low, high = option.default, option.minimum, option.maximum
    if option.fixed:
        return default, default
    return None if low is None else min(low, default), None if high is None else max(high, default)


def _whole(bound: float | None, rounded: Any) -> int | None:
    return None if bound is None else int(rounded(bound))
