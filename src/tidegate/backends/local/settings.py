"""The settings of the local backend: what stands beside ``name: local`` in the section ``backend``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tidegate.settings import FilePath, Section


class LocalSettings(Section):
    """Clusters are processes on the gateway's own machine."""

    environments: dict[str, FilePath] = Field(default_factory=dict)
    """Software that users may choose for their work: to each name the path of a Python interpreter that has
    ``distributed`` (2024.1 or newer) installed. Nothing of Tidegate's is needed there."""
    notebook_environment: bool = True
    """Whether users may also choose ``notebook``: the interpreter that their notebook runs, if this machine has it,
    else the gateway's own. Then their packages are there."""
    core_oversubscription: float = Field(default=8.0, gt=0)
    """How many worker cores one core of the machine may stand for. Workers often wait (for data, for other workers),
    and cores can be shared; memory cannot, and is not oversubscribed."""
    scratch: FilePath | None = None
    """Folder in which workers spill data that does not fit into memory, on a fast local disk with room. By default it
    is in the cluster's own folder. Each cluster gets a folder there that only its processes may enter, removed when it
    ends; where everybody may write, the sticky bit must be set, as it is on ``/tmp``. With ``accounts: owner``
    everybody has to."""
    accounts: Literal["gateway", "owner"] = "gateway"
    """As whom clusters run. ``gateway``: all as the account that the gateway runs as, so that users can read each
    other's files. ``owner``: each as the account of this machine that has its owner's name, so that the machine keeps
    them apart; for that the gateway must be started as root."""
    smallest_uid: int = Field(default=1000, ge=1)
    """Smallest user id under which clusters run with ``accounts: owner``. Below are the accounts of the system: most
    distributions give people numbers from 1000 on (``UID_MIN`` in ``/etc/login.defs``)."""
    folder: FilePath | None = None
    """Folder in which each cluster has a folder of its own, with its secrets and logs. By default ``clusters`` in the
    data folder; with ``accounts: owner``, where users must reach theirs, the data folder's path with ``-clusters``
    added. There, root must own it and all above it."""
    control_groups: Literal["auto", "off"] = "auto"
    """Whether the kernel keeps workers to their limits. With ``auto`` each worker has a control group, where the host
    lets the gateway make any: what its tasks start counts towards its memory, and it uses no more than its cores.
    With ``off``, or where there are none, only Dask looks after the memory of the worker's own process."""
    pass_environment: tuple[str, ...] = ()
    """Names of further variables of the gateway's environment that schedulers and workers get, such as
    ``LD_LIBRARY_PATH``. Any user can read them."""
    zygotes: int = Field(default=4, ge=0)
    """How many processes are kept ready from which clusters are forked in a hundredth of the time that an interpreter
    takes to start: one for each environment (and account) that was used last, of 100 MB. 0: none, each cluster starts
    an interpreter."""
    preload_modules: tuple[str, ...] = ()
    """Names of Python modules that most clusters use, besides NumPy and pandas: they are imported once, where clusters
    are forked from, and their memory is shared. One that is not installed is passed over. One that starts threads when
    it is imported must not be named: then nothing can be forked, and the log says so. Nor one that then reads files of
    the user's home, such as ``fsspec`` or ``matplotlib``: the home is empty there, and clusters would not have what the
    user has set."""
