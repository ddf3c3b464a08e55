"""What the official client can be told about options and limits: the same questions for either server.

The answers are plain data, so that those of dask-gateway's own server can be kept (``answers.json``) and compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from dask_gateway import Gateway
from dask_gateway.options import Options
from IPython.lib.pretty import pretty

from tests.support import eventually_sync

Answers = dict[str, Any]

SETTINGS: list[tuple[str, Any]] = [
    ("worker_cores", 0),
    ("worker_cores", 3),
    ("worker_cores", "two"),
    ("worker_cores", 1.5),
    ("worker_memory", 2.5),
    ("worker_memory", "1 GiB"),
    ("level", -(10**6)),
    ("rounds", 3),
    ("ratio", 2),
    ("ratio", -5),
    ("project", 7),
    ("spot", "yes"),
    ("image", "reg/geo"),
    ("image", "Geosciences"),
    ("queue", None),
    ("site", "south"),
    ("tags", "team"),
    ("nonsense", 1),
]
"""What somebody sets in the form."""

REQUESTS: dict[str, dict[str, Any]] = {
    "unknown": {"nonsense": 1, "more": 2},
    "too large": {"worker_cores": 9},
    "too small": {"worker_memory": 0.1},
    "no number": {"worker_cores": "two"},
    "nothing": {"worker_cores": None},
    "fixed": {"rounds": 3},
    "fixed text": {"site": "south"},
    "no choice": {"image": "nope"},
    "no truth": {"spot": "yes"},
    "no mapping": {"tags": "team"},
    "refused by the handler": {"project": "full"},
}
"""What somebody asks for without the form; nothing can be made of any of it."""

SIZES: dict[str, Callable[[Any], object]] = {
    "scale to what fits": lambda cluster: cluster.scale(1),
    "scale beyond": lambda cluster: cluster.scale(10),
    "scale below": lambda cluster: cluster.scale(-1),
    "adapt": lambda cluster: cluster.adapt(),
    "adapt within": lambda cluster: cluster.adapt(minimum=0, maximum=2),
    "adapt beyond": lambda cluster: cluster.adapt(minimum=0, maximum=10),
    "adapt to more than fits": lambda cluster: cluster.adapt(minimum=8, maximum=10),
    "adapt from more than fits": lambda cluster: cluster.adapt(minimum=8),
    "adapt no longer": lambda cluster: cluster.adapt(active=False),
}

SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "small workers": ({}, 3),
    "workers of two cores": ({"worker_cores": 2}, 1),
    "workers of 2 GiB": ({"worker_memory": 2}, 2),
}
"""Clusters, with how many workers they may have: all together 4 cores and 6 GiB, 1 and 2 of these the scheduler's."""


def told(attempt: Callable[[], object], **names: str) -> list[str]:
    """Return what somebody reads: warnings, and the error if there is one; each with its class."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        errors = []
        try:
            attempt()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    words = [f"{w.category.__name__}: {w.message}" for w in caught if w.category.__name__ == "GatewayWarning"]
    said = [*words, *errors]
    for name, stands_for in names.items():
        said = [line.replace(stands_for, name) for line in said]
    return said


def form(options: Options) -> Answers:
    """Return what the client makes of the options: fields, values, text and widget."""
    kinds = ("label", "min", "max", "options")
    fields = {
        name: {"type": type(field).__name__, **{kind: getattr(field, kind) for kind in kinds if hasattr(field, kind)}}
        for name, field in options._fields.items()
    }
    return {"fields": fields, "values": dict(options), "text": pretty(options), "widget": list(_widgets(options))}


def _widgets(options: Options) -> Iterator[list[Any]]:
    _, grid = options._widget().children
    shown = ("value", "min", "max", "options", "disabled")
    for widget in grid.children:
        yield [type(widget).__name__, {name: getattr(widget, name) for name in shown if hasattr(widget, name)}]


def ask_options(user: Gateway) -> Answers:
    """Return what is told of options: the form, what it refuses, what the server refuses, what is on record."""
    options = user.cluster_options()
    answers: Answers = {"form": form(options)}
    answers["set"] = {
        f"{name} = {value!r}": told(lambda name=name, value=value: options.__setitem__(name, value))  # type: ignore[misc]
        for name, value in SETTINGS
    }
    answers["after"] = dict(options)
    answers["get"] = told(lambda: options.nonsense) + told(lambda: options["nonsense"])
    answers["request"] = {
        what: told(lambda request=request: user.submit(**request))  # type: ignore[misc]
        for what, request in REQUESTS.items()
    }
    name = user.submit(options, worker_memory=2)
    answers["record"] = dict(user.get_cluster(name).options)
    user.stop_cluster(name)
    return answers


def ask_limits(user: Gateway) -> Answers:
    """Return what is told of limits while clusters are sized, and how many workers they then have."""
    answers: Answers = {}
    for what, (request, most) in SHAPES.items():
        with user.new_cluster(**request) as cluster:
            answers[what] = {size: told(lambda do=do: do(cluster)) for size, do in SIZES.items()}  # type: ignore[misc]
            cluster.scale(0)
            eventually_sync(lambda cluster=cluster: not cluster.scheduler_info["workers"], 60)
            answers[what]["scale beyond, again"] = told(lambda cluster=cluster: cluster.scale(10))  # type: ignore[misc]
            eventually_sync(lambda cluster=cluster, most=most: len(cluster.scheduler_info["workers"]) == most, 90, what)
            answers[what]["workers"] = most
            name = cluster.name
        answers[what]["scale what has stopped"] = told(lambda name=name: user.scale_cluster(name, 1), NAME=name)  # type: ignore[misc]
        answers[what]["adapt what has stopped"] = told(lambda name=name: user.adapt_cluster(name), NAME=name)  # type: ignore[misc]
    answers["of nothing"] = told(lambda: user.scale_cluster("nonsense", 1)) + told(lambda: user.get_cluster("nonsense"))
    return answers
