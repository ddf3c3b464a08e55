"""What holds for every cluster that is made, as the administrator has it."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.control.credentials import LIFETIME
from tidegate.model.ends import NO_ENDS, EndRules
from tidegate.model.prices import FREE, Prices


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every cluster.

    Parameters
    ----------
    start_timeout : float
        Seconds from the launch of a scheduler until it must have reported.
    certificate_lifetime : float
        Seconds for which a cluster's certificates are good.
    ends : EndRules
        When clusters end by themselves; by default they do not.
    prices : Prices
        What it costs to run something.
    """

    start_timeout: float = 120.0
    certificate_lifetime: float = LIFETIME
    ends: EndRules = NO_ENDS
    prices: Prices = FREE
