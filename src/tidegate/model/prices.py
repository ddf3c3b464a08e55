"""What it costs to run something, as the administrator says; by default nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices, in the currency that the administrator names.

    A cluster keeps those of the moment when it was made: who starts one knows what it costs, and what was counted does
    not change with the settings.

    Parameters
    ----------
    core_hour, gib_hour, gpu_hour : float
        Of a core, of a GiB of memory and of a GPU, for each hour in which it runs.
    """

    core_hour: float = 0.0
    gib_hour: float = 0.0
    gpu_hour: float = 0.0


FREE = Prices()
