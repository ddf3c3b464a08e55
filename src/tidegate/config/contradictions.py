"""Where parts of a policy cannot be meant together, although each by itself is right.

Two kinds are told apart. A **contradiction** has an effect that nobody can want, such as a limit that leaves no room
for a single worker: the gateway does not start with it. A **doubt** may be meant: a group that nobody is known to be in
may come with somebody's login tomorrow. It is shown by ``tidegate config check``, and no more. Both name the line.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from tidegate.config.load import BadConfig, Loaded, Location, did_you_mean, dotted, nearest_name
from tidegate.config.schema import Settings
from tidegate.model.amounts import Amounts, Resource
from tidegate.model.budgets import Measure
from tidegate.model.durations import describe_duration
from tidegate.model.limits import SubjectKind
from tidegate.model.offer import Offer
from tidegate.model.options import MEMORY_UNITS, Kind, Option
from tidegate.model.patterns import is_like, is_pattern


def check_policy(loaded: Loaded, offer: Offer) -> None:
    """See that the policy can be meant.

    Raises
    ------
    BadConfig
        With one sentence for each contradiction.
    """
    problems = [
        *_budgets_without_prices(loaded),
        *_limits_below_a_worker(loaded, offer),
        *_crossed_bounds(loaded, offer),
    ]
    if problems:
        raise BadConfig(problems)


def doubts(loaded: Loaded) -> Iterator[str]:
    """Yield a sentence about each thing that is probably not meant."""
    yield from _unknown_groups(loaded)
    yield from _users_by_pattern(loaded)
    yield from _keys_that_never_count(loaded)
    yield from _limits_out_of_reach(loaded)
    yield from _ends_out_of_reach(loaded)
    yield from _sizes_without_a_maximum(loaded)


def _say(loaded: Loaded, at: Location, rule: str) -> str:
    return f"{loaded.place(at)}: {dotted(at)} {rule}"


# -- contradictions ----------------------------------------------------------------------------------------------------


def _budgets_without_prices(loaded: Loaded) -> Iterator[str]:
    settings = loaded.settings
    prices = settings.prices
    if prices.core_hour or prices.gib_hour or prices.gpu_hour:
        return
    for budget in settings.budgets.budgets(prices.currency):
        if budget.measure is Measure.COST:
            at = (*_place("budgets", budget.subject.kind, budget.subject.name), "cost")
            rule = f"is {budget.amount:g}, and nothing costs anything: set prices, or a budget of core_hours instead"
            yield _say(loaded, at, rule)


def _limits_below_a_worker(loaded: Loaded, offer: Offer) -> Iterator[str]:
    """A limit of something that leaves no room for a worker. One of nothing is meant: it says that there is none."""
    if loaded.settings.options_hook is not None:
        return  # It may make workers of any size.
    least, sources = _smallest_worker(offer)
    for rule in loaded.settings.limits.rules():
        needed = least.of(rule.resource)
        if 0 < rule.amount < needed:
            name = sources[rule.resource]
            at = (*_place("limits", rule.subject.kind, rule.subject.name), rule.resource.value)
            worker = f"the smallest worker that options.{name} allows has {rule.resource.number(needed)}"
            declared = ("options", name)
            where = f" ({loaded.place(declared)})" if declared in loaded.lines else ""
            yield _say(loaded, at, f"is {rule.resource.number(rule.amount)}, and {worker}{where}: none would ever fit")


def _smallest_worker(offer: Offer) -> tuple[Amounts, Mapping[Resource, str]]:
    """Return the least that a worker can have, whoever asks, and which option says so."""
    sizes = {"worker_cores": Resource.CORES, "worker_memory": Resource.MEMORY, "worker_gpus": Resource.GPUS}
    least: dict[Resource, float] = {}
    sources: dict[Resource, str] = {}
    for option in offer.options:
        resource = sizes.get(option.target or option.name)
        if resource is not None and option.kind in (Kind.INTEGER, Kind.FLOAT):
            factor = MEMORY_UNITS.get(option.unit, MEMORY_UNITS["GiB"]) if resource is Resource.MEMORY else 1
            least[resource], sources[resource] = min(_possible(offer, option)) * factor, option.name
    memory = int(least.get(Resource.MEMORY, 0))
    return Amounts(0, 1, least.get(Resource.CORES, 0), memory, int(least.get(Resource.GPUS, 0))), sources


def _possible(offer: Offer, option: Option) -> Iterator[float]:
    """Yield the smallest values that an option can have: by itself, for groups, and by profiles."""
    for one in (option, *(variant.option for variant in offer.by_group.get(option.name, ()))):
        yield one.default
        if not one.fixed and not one.hidden:
            yield 0 if one.minimum is None else one.minimum
    yield from (profile.values[option.name] for profile in offer.profiles if option.name in profile.values)


def _crossed_bounds(loaded: Loaded, offer: Offer) -> Iterator[str]:
    """By default a cluster would adapt between bounds that are crossed, and be refused."""
    named = {option.target or option.name: option for option in offer.options}
    low, high = named.get("minimum"), named.get("maximum")
    if low is not None and high is not None and 0 < high.default < low.default:
        at = ("options", low.name, "default")
        rule = f"is {low.default}, and that of {high.name} is {high.default}: by default every cluster would be refused"
        yield _say(loaded, at, rule)


# -- doubts ------------------------------------------------------------------------------------------------------------


def _unknown_groups(loaded: Loaded) -> Iterator[str]:
    """Groups of which nobody is known to be a member, or nearly the name of one that is known."""
    people = loaded.settings.authentication
    known = list(people.groups)
    for at, group in _groups_named(loaded.settings):
        if any(is_like(one, group) for one in known):
            continue
        near = nearest_name(group, known)
        if near is None and people.logins:
            continue  # Logins vouch for groups that stand nowhere here.
        hint = did_you_mean(group, known) if near or known else "there are none in authentication.groups"
        yield _say(loaded, at, f"is for a group that nobody is known to be in: {group}; {hint}")


def _groups_named(settings: Settings) -> Iterator[tuple[Location, str]]:
    """Yield each group that is named somewhere, by name or pattern, with its place."""
    mappings: dict[Location, Collection[str]] = {
        **{("options", name, "by_group"): option.by_group for name, option in settings.options.items()},
        ("limits", "groups"): settings.limits.groups,
        ("budgets", "groups"): settings.budgets.groups,
    }
    lists: dict[Location, Sequence[str]] = {
        ("authentication", "admin_groups"): settings.authentication.admin_groups,
        ("sharing", "groups"): settings.sharing.groups or (),
        **{("profiles", name, "groups"): profile.groups for name, profile in settings.profiles.items()},
    }
    for at, groups in mappings.items():
        yield from (((*at, group), group) for group in groups)
    for at, named in lists.items():
        yield from (((*at, number), group) for number, group in enumerate(named))


def _users_by_pattern(loaded: Loaded) -> Iterator[str]:
    said = [("limits", name) for name in loaded.settings.limits.users]
    said += [("budgets", name) for name in loaded.settings.budgets.users]
    for section, name in said:
        if is_pattern(name):
            rule = "means a user of exactly this name: patterns are for groups"
            yield _say(loaded, (section, "users", name), rule)


def _keys_that_never_count(loaded: Loaded) -> Iterator[str]:
    """Of an option's groups the first counts that one is in, so what is like an earlier one never does."""
    for name, option in loaded.settings.options.items():
        groups = list(option.by_group)
        for place, group in enumerate(groups):
            before = next((other for other in groups[:place] if is_like(group, other)), None)
            if before is not None:
                rule = f"never counts: whoever is in it is in one like {before} too, which stands before it"
                yield _say(loaded, ("options", name, "by_group", group), rule)


def _limits_out_of_reach(loaded: Loaded) -> Iterator[str]:
    """What one may have is more than all together may."""
    said = {(rule.subject, rule.resource): rule.amount for rule in loaded.settings.limits.rules()}
    for (subject, resource), amount in said.items():
        wider = [SubjectKind.GATEWAY, *([SubjectKind.GROUP] if subject.kind is SubjectKind.EACH else [])]
        for (other, what), most in said.items():
            same = other.kind is not SubjectKind.GROUP or other.name == subject.name
            if other != subject and other.kind in wider and same and what is resource and most < amount < math.inf:
                at = (*_place("limits", subject.kind, subject.name), resource.value)
                rule = f"is {resource.number(amount)}, and only {resource.tell(most)} are {other.words}"
                yield _say(loaded, at, rule)


def _ends_out_of_reach(loaded: Loaded) -> Iterator[str]:
    ends = loaded.settings.ends
    if ends.lifetime <= ends.idle < math.inf:
        least = describe_duration(ends.lifetime)
        yield _say(loaded, ("ends", "idle"), f"never comes: ends.lifetime is {least}, and over before")


def _sizes_without_a_maximum(loaded: Loaded) -> Iterator[str]:
    """What is counted as used, and has no bounds of its own."""
    if not loaded.settings.budgets.budgets(loaded.settings.prices.currency):
        return
    for name, said in loaded.settings.options.items():
        is_counted = (said.target or name) in ("scheduler_cores", "scheduler_memory", "worker_gpus")
        if is_counted and said.maximum is None and not (said.choices or said.fixed or said.hidden):
            rule = "has no maximum: with one number a user can spend a whole budget, as far as the backend has so much"
            yield _say(loaded, ("options", name), rule)


def _place(section: str, kind: SubjectKind, name: str) -> Location:
    """Return where a limit or budget stands."""
    match kind:
        case SubjectKind.EACH:
            return (section, "groups", name, "each")
        case SubjectKind.GROUP:
            return (section, "groups", name, "together")
        case SubjectKind.USER if name:
            return (section, "users", name)
        case _:
            return (section, kind.value)
