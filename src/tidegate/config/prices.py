"""The settings below ``prices``: what it costs to run something."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tidegate.model.prices import Prices
from tidegate.settings import Section, Unit

Price = Annotated[float, Field(ge=0, allow_inf_nan=False), Unit("per hour")]


class PriceSettings(Section):
    """What it costs to run something, for the cost that users and administrators read beside what was used. A cluster
    keeps the prices at which it was made."""

    core_hour: Price = 0
    """Of a core."""
    gib_hour: Price = 0
    """Of a GiB of memory."""
    gpu_hour: Price = 0
    """Of a GPU."""
    currency: Annotated[str, Field(max_length=10)] = ""
    """What the prices are in, such as ``EUR``: shown beside the cost."""

    def prices(self) -> Prices:
        """Return the prices."""
        return Prices(self.core_hour, self.gib_hour, self.gpu_hour)
