"""What users may choose, as JSON of our own protocol. What is hidden is not there, what is secret stands as ``***``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from tidegate.model.options import Kind, Option, OptionSet
from tidegate.model.profiles import Profile


class OptionBody(BaseModel):
    """One option that users may set (``fixed``: that they may see)."""

    name: str
    kind: str = Field(examples=[kind.value for kind in Kind])
    default: Any
    label: str
    help: str
    minimum: int | float | None
    maximum: int | float | None
    unit: str
    choices: list[str]
    labels: list[str] = Field(description="What people read for each of the choices; empty: the choices themselves.")
    patterns: list[str] = Field(description="What a string may be like; empty: anything.")
    fixed: bool
    secret: bool = Field(description="Whether texts of the mapping are shown to nobody: *** stands for what is there.")

    @classmethod
    def from_model(cls, option: Option) -> OptionBody:
        """Return the JSON form of ``option``."""
        return cls(
            name=option.name,
            kind=option.kind.value,
            default=option.told(option.default),
            label=option.label or option.name,
            help=option.help,
            minimum=option.minimum,
            maximum=option.maximum,
            unit=option.unit,
            choices=list(option.choices),
            labels=list(option.labels),
            patterns=list(option.patterns),
            fixed=option.fixed,
            secret=option.secret,
        )


class ProfileBody(BaseModel):
    """What holds when it is chosen by the option ``profile``, of the listed options that any profile sets."""

    name: str
    label: str
    help: str
    values: dict[str, Any]

    @classmethod
    def from_model(cls, profile: Profile, options: OptionSet) -> ProfileBody:
        """Return the JSON form of ``profile``."""
        return cls(
            name=profile.name,
            label=profile.label or profile.name,
            help=profile.help,
            values=options.effect(profile),
        )


class Options(BaseModel):
    """All options, in the order in which forms show them, with what holds when nothing is said."""

    options: list[OptionBody]
    profiles: list[ProfileBody]

    @classmethod
    def from_model(cls, options: OptionSet) -> Options:
        """Return the JSON form of ``options``."""
        return cls(
            options=[OptionBody.from_model(option) for option in options.shown()],
            profiles=[ProfileBody.from_model(profile, options) for profile in options.profiles],
        )
