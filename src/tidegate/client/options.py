"""What a user may choose when a cluster is created, as the administrator of the gateway declared it.

An ``Options`` object is a mapping with attributes. A value is checked when it is set, with the rules and the words of
the gateway (``model/options.py``); the gateway decides all the same when the cluster is created. Where there are
profiles, choosing one sets what it sets, except what was set before by hand.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import replace
from keyword import iskeyword
from typing import Any

from tidegate.client.errors import GatewayValueError
from tidegate.model.errors import Invalid
from tidegate.model.options import Kind, Option
from tidegate.model.profiles import PROFILE


class OptionKeyError(GatewayValueError, KeyError):
    """There is no option of that name."""

    __str__ = GatewayValueError.__str__  # a KeyError shows its message as repr


class OptionAttributeError(GatewayValueError, AttributeError):
    """There is no option of that name."""


class Options(MutableMapping[str, Any]):
    """The options of a gateway with their values, to be changed by key, by attribute, or in a notebook's form.

    They are made by ``Gateway.cluster_options``, and given to ``Gateway.new_cluster``.

    Examples
    --------
    >>> options = gateway.cluster_options()  # doctest: +SKIP
    >>> options.worker_cores = 2  # doctest: +SKIP
    >>> options["worker_memory"] = "4 GiB"  # doctest: +SKIP
    >>> cluster = gateway.new_cluster(options)  # doctest: +SKIP
    """

    _options: dict[str, Option]
    _values: dict[str, Any]
    _profiles: dict[str, Mapping[str, Any]]
    _set: set[str]
    _watchers: list[Callable[[str, Any], None]]

    def __init__(self, options: Iterable[Option], profiles: Mapping[str, Mapping[str, Any]] = {}) -> None:
        declared = {option.name: option for option in options}
        # Attributes of the object itself go around __setattr__, which sets options.
        object.__setattr__(self, "_options", declared)
        object.__setattr__(self, "_values", {name: option.default for name, option in declared.items()})
        object.__setattr__(self, "_profiles", dict(profiles))
        object.__setattr__(self, "_set", set())
        object.__setattr__(self, "_watchers", [])

    @classmethod
    def from_json(cls, options: Iterable[Mapping[str, Any]], profiles: Iterable[Mapping[str, Any]] = ()) -> Options:
        """Build the options from what the gateway lists."""
        return cls((_option(body) for body in options), {body["name"]: body["values"] for body in profiles})

    def __getitem__(self, name: str) -> Any:
        self._require(name, OptionKeyError)
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._require(name, OptionKeyError)
        try:
            checked = self._held(name).check(value)
        except Invalid as error:
            raise GatewayValueError(error.message) from None
        self._set.add(name)
        self._put(name, checked)
        if name == PROFILE:
            for other in self._profiles.get(checked, {}).keys() & self._options.keys() - self._set:
                self._put(other, self._held(other).default)

    def __delitem__(self, name: str) -> None:
        """Set the option back to its default."""
        self[name] = self._require(name, OptionKeyError).default if name == PROFILE else self._held(name).default
        self._set.discard(name)

    def _held(self, name: str) -> Option:
        """Return an option with what the chosen profile sets as its default."""
        option = self._options[name]
        values = self._profiles.get(self._values.get(PROFILE, ""), {})
        return replace(option, default=values[name]) if name in values else option

    def _put(self, name: str, value: Any) -> None:
        self._values[name] = value
        for tell in self._watchers:
            tell(name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._require(name, OptionAttributeError)
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._require(name, OptionAttributeError)
        self[name] = value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self._values if name.isidentifier() and not iskeyword(name))]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._values)

    def __repr__(self) -> str:
        width = max((len(name) for name in self._values), default=0)
        shown = max((len(value) for _, value, _ in rows(self)), default=0)
        lines = [f"    {name:<{width}} = {value:<{shown}}  {rule}".rstrip() for name, value, rule in rows(self)]
        return "\n".join(["Options<", *lines, ">"]) if lines else "Options<>"

    def _repr_html_(self) -> str:
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align: left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows(self)
        )
        head = "".join(f"<th style='text-align: left'>{title}</th>" for title in ("Option", "Value", "May be"))
        return f"<h3>Cluster options</h3><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _ipython_display_(self, **kwargs: Any) -> None:
        from IPython.display import display

        from tidegate.client.widget import options_form

        form = options_form(self)
        plain = {"text/plain": repr(self), "text/html": self._repr_html_()}
        bundle = {} if form is None else form._repr_mimebundle_(**kwargs)
        display({**bundle, **plain}, raw=True)

    def _require(self, name: str, error: type[GatewayValueError]) -> Option:
        option = self._options.get(name)
        if option is None:
            offered = ", ".join(self._options) or "no options"
            raise error(f"cannot find an option {name!r}: this gateway offers {offered}")
        return option


# These are functions, not methods: a method's name would hide an option of the same name.


def declarations(options: Options) -> list[Option]:
    """Return how the options are declared: kinds, bounds, units, help."""
    return list(options._options.values())


def chosen(options: Options) -> dict[str, Any]:
    """Return what to ask the gateway for. What is fixed is not asked for: the gateway knows it."""
    return {name: value for name, value in options.items() if not options._options[name].fixed}


def rows(options: Options) -> list[tuple[str, str, str]]:
    """Return name, value with unit, and what it may be, for tables."""
    return [(option.name, option.describe(options[option.name]), option.may_be()) for option in declarations(options)]


def watch(options: Options, tell: Callable[[str, Any], None]) -> None:
    """Call ``tell(name, value)`` whenever a value is set."""
    options._watchers.append(tell)


def merge(given: Mapping[str, Any] | None, overrides: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to ask for: ``given`` (else the configuration's ``defaults``), then the ``overrides``.

    Raises
    ------
    GatewayValueError
        When ``given`` is no mapping.
    """
    if isinstance(given, Options):
        trial = _twin(given)
        for name, value in overrides.items():
            trial[name] = value  # the same words as the gateway's, before anything is sent
        return chosen(trial) | {name: trial[name] for name in overrides}
    if given is not None and not isinstance(given, Mapping):
        raise GatewayValueError(
            f"cannot use {type(given).__name__} as cluster options: give what Gateway.cluster_options() returns, "
            "or a mapping"
        )
    return dict(defaults if given is None else given) | dict(overrides)


def _twin(options: Options) -> Options:
    """Return other options with the same values, which nobody watches."""
    twin = Options(declarations(options), options._profiles)
    twin._values.update(options._values)
    twin._set.update(options._set)
    return twin


def _option(body: Mapping[str, Any]) -> Option:
    """Build one option. What a newer gateway adds is ignored; a kind that is not known here is taken as it comes."""
    fields = {name: body[name] for name in Option.__dataclass_fields__ if name in body}
    fields |= {name: tuple(fields.get(name) or ()) for name in ("choices", "labels", "patterns")}
    try:
        return Option(**fields | {"kind": Kind(fields.get("kind"))})
    except ValueError:
        return _Opaque(**fields | {"kind": Kind.STRING, "choices": (), "labels": ()})


class _Opaque(Option):
    """An option of a kind that this version does not know: the gateway alone judges its value."""

    __slots__ = ()

    def check(self, value: Any) -> Any:
        """Return ``value`` as it is."""
        return value
