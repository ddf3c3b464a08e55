"""The settings of the local backend: what stands beside ``name: local`` in the section ``backend``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


def _resolve(path: Path, info: ValidationInfo) -> Path:
    # Relative to the configuration file. Links stay: the ``python`` of a virtual environment is one.
    folder = (info.context or {}).get("folder") or Path.cwd()
    return Path(os.path.abspath(folder / path.expanduser()))


FilePath = Annotated[Path, AfterValidator(_resolve)]


class LocalSettings(BaseModel):
    """Clusters are processes on the gateway's own machine, of the gateway's own user."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

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
    ends; where everybody may write, the sticky bit must be set, as it is on ``/tmp``."""
    pass_environment: tuple[str, ...] = ()
    """Names of further variables of the gateway's environment that schedulers and workers get, such as
    ``LD_LIBRARY_PATH``. Any user can read them."""
