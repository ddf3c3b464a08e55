"""What a configuration comes to, in words: who may have what, how much of it, and when it ends.

For ``tidegate config check``. An administrator reads here whether they have written what they meant; so everything that
users will meet is said, what is not bounded too, and what is not written is said as it holds by default.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import groupby

from tidegate.config.load import Loaded
from tidegate.config.schema import Ends, Settings
from tidegate.model.durations import describe_duration
from tidegate.model.limits import Rule
from tidegate.model.offer import Offer
from tidegate.model.options import Option


def describe(loaded: Loaded, offer: Offer, understood: Collection[str]) -> Iterator[str]:
    """Yield the lines.

    Parameters
    ----------
    loaded : Loaded
        The settings.
    offer : Offer
        What users are offered.
    understood : collection of str
        The options with which the gateway or its backend does something.
    """
    settings = loaded.settings
    yield from _section("Groups:", _groups(settings))
    yield from _section("Users may choose:", _choices(settings, offer, understood))
    yield from _section("At most may be held at a time:", _limits(settings))
    yield from _section("It costs:", _prices(settings))
    yield from _section("At most may be used:", _budgets(settings))
    yield from _section("A cluster ends by itself:", _ends(settings.ends, offer))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = [f"  {line}" for line in lines]
    if found:
        yield title
        yield from found


def _groups(settings: Settings) -> Iterator[str]:
    people = settings.authentication
    for group, members in people.groups.items():
        yield f"{group}: {', '.join(members) or 'nobody yet'}"
    admins = [*people.admins, *(f"members of {group}" for group in people.admin_groups)]
    if admins:
        yield f"administrators: {', '.join(admins)}"


# -- options -----------------------------------------------------------------------------------------------------------


def _choices(settings: Settings, offer: Offer, understood: Collection[str]) -> Iterator[str]:
    for option in offer.options:
        idle = "" if (option.target or option.name) in understood else _of_your_own(settings)
        yield f"{option.name}: {option.kind.value}, {_rules(option)}{idle}"
        for variant in offer.by_group.get(option.name, ()):
            yield f"  for {variant.group}: {_rules(variant.option)}"
    by_name = {option.name: option for option in offer.options}
    for profile in offer.profiles:
        values = ", ".join(f"{name} {by_name[name].describe(value)}" for name, value in profile.values.items())
        whose = f", for {', '.join(profile.groups)}" if profile.groups else ""
        yield f"profile {profile.name}: {values or 'sets nothing'}{whose}"
    if settings.options_hook is not None:
        yield f"{settings.options_hook} decides on what they chose"


def _of_your_own(settings: Settings) -> str:
    hook = " beside options_hook" if settings.options_hook is not None else ""
    return f"; recorded, and the backend {settings.backend.name} does nothing with it{hook}"


def _rules(option: Option) -> str:
    value = option.describe(option.default)
    if option.hidden:
        return f"hidden, always {value}" if not option.fixed else f"hidden, fixed at {value}"
    if option.fixed:
        return f"fixed at {value}: shown, and nobody can change it"
    return f"default {value} ({option.may_be()})"


# -- limits, prices and budgets ----------------------------------------------------------------------------------------


def _limits(settings: Settings) -> Iterator[str]:
    rules = list(settings.limits.rules())
    for words, said in groupby(rules, lambda rule: rule.subject.words):
        yield f"{', '.join(_amount(rule) for rule in said)} {words}"
    if not rules:
        yield "what the backend can carry: no limits are set"
        return
    yield "nothing else is limited, but by what the backend can carry"
    if settings.limits.when_full == "wait":
        yield "beyond, a new cluster waits in line, and a size becomes what fits"
    else:
        yield "beyond, a new cluster is refused, and a size becomes what fits"


def _amount(rule: Rule) -> str:
    return rule.resource.tell(rule.amount)


def _prices(settings: Settings) -> Iterator[str]:
    prices = settings.prices
    for unit, price in (("core", prices.core_hour), ("GiB", prices.gib_hour), ("GPU", prices.gpu_hour)):
        if price:
            yield f"{price:g} {prices.currency}".rstrip() + f" for each {unit}-hour"


def _budgets(settings: Settings) -> Iterator[str]:
    budgets = settings.budgets.budgets(settings.prices.currency)
    for budget in budgets:
        yield budget.words
    if budgets:
        before = f" and the {budgets.days - 1} days before" if budgets.days > 1 else ""
        yield f"counted is what ran today{before}"
        grace = describe_duration(budgets.grace)
        yield f"when one is spent there is nothing new, and what runs ends {grace} later, with a reason"


# -- ends --------------------------------------------------------------------------------------------------------------


def _ends(ends: Ends, offer: Offer) -> Iterator[str]:
    if ends.idle < math.inf:
        warned = _announced(ends, ends.idle)
        chosen = _chosen(offer, "idle_timeout")
        yield f"when nothing has run on it for {describe_duration(ends.idle)}{warned}{chosen}"
    else:
        yield f"never for being idle{_chosen(offer, 'idle_timeout')}"
    if ends.no_client < math.inf:
        yield f"when all its clients have been gone for {describe_duration(ends.no_client)}, and nothing runs"
    if ends.lifetime < math.inf:
        warned = _announced(ends, ends.lifetime)
        yield f"after {describe_duration(ends.lifetime)}, whatever runs on it{warned}{_chosen(offer, 'lifetime')}"
    else:
        yield f"at no age{_chosen(offer, 'lifetime')}"
    if ends.hub_server_stopped:
        yield "when the notebook server of the JupyterHub has stopped from which it was made, whatever runs on it"
    if ends.hub_user_removed:
        yield "when the JupyterHub no longer has its owner"


def _announced(ends: Ends, span: float) -> str:
    lead = min(ends.warn, span / 2)
    return f", announced {describe_duration(lead)} before" if lead else ""


def _chosen(offer: Offer, name: str) -> str:
    declared = any((option.target or option.name) == name for option in offer.options)
    return f", unless its option {name} says something else" if declared else ""
