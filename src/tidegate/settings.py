"""What every group of settings is made of, whoever declares it: the gateway itself, a backend, an authenticator.

The docstring below a field is what the reference page and ``tidegate config explain`` say about the setting.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, model_validator

from tidegate.model.durations import parse_duration


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit in which a number is given; shown beside the setting, not checked."""

    name: str


class Section(BaseModel):
    """A group of settings. Unknown keys are refused; null means the default."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, data: Any) -> Any:
        # A section of a mapping, such as an option that is named and no more, may be null itself.
        given = {} if data is None else data
        return {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given


def _resolve(path: Path, info: ValidationInfo) -> Path:
    # Links stay: the ``python`` of a virtual environment is one.
    folder = (info.context or {}).get("folder") or Path.cwd()
    return Path(os.path.abspath(folder / path.expanduser()))


Duration = Annotated[float, BeforeValidator(parse_duration), Unit("seconds, or text such as 30 min, or never")]
"""A time span, inside in seconds; infinite for never."""

FilePath = Annotated[Path, AfterValidator(_resolve)]
"""A path that may begin with ``~`` and is relative to the folder of the configuration file."""
