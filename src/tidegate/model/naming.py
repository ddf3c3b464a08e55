"""What an owner calls a cluster: its alias, by which they find it again, and labels, by which they tell clusters apart.

A cluster's own name is global, random and for good: it stands in URLs, in TLS names and in the names of jobs. The alias
is its owner's word for it. It belongs to one of their clusters at a time, and is free again as soon as that cluster
is to end: whoever stops ``training`` can start the next ``training`` at once. So an alias means the cluster that has
it now, or else the latest that had it, whose reasons and logs can still be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tidegate.model.cluster import Cluster, Target
from tidegate.model.errors import Invalid, NameTaken

ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""63 characters, as a DNS label has: enough for a sentence, and it fits into a column of a table."""
_GLOBAL_NAME = re.compile(r"[0-9a-f]{16}")
LABEL_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
"""As on Kubernetes, so that labels can be handed on to engines that know some."""

LABELS_LIMIT = 20
"""Labels of one cluster: they are sent with every list."""
LABEL_LENGTH = 200
"""Characters of a label's value."""


def check_alias(value: Any) -> str:
    """Return ``value`` if a cluster can be called so (None or empty: it has no alias), else raise ``Invalid``."""
    if value is None or value == "":
        return ""
    words = "cannot give the cluster this name: "
    if not isinstance(value, str) or not ALIAS.fullmatch(value):
        rule = "it has at most 63 lower-case letters, digits, '-', '.' and '_', and begins with a letter or a digit"
        raise Invalid(words + rule, field="alias")
    if _GLOBAL_NAME.fullmatch(value):
        raise Invalid(words + "16 hexadecimal digits are what the gateway itself calls clusters", field="alias")
    return value


def can_be_alias(name: str) -> bool:
    """Whether a cluster may have this alias, so that it can be what somebody means by ``name``."""
    return ALIAS.fullmatch(name) is not None and not _GLOBAL_NAME.fullmatch(name)


def check_labels(value: Any) -> dict[str, str]:
    """Return ``value`` if a cluster can have these labels (None: it has none), else raise ``Invalid``."""
    if value is None:
        return {}
    words = "cannot label the cluster: "
    if not isinstance(value, Mapping):
        raise Invalid(words + "labels must map text to text", field="labels")
    if len(value) > LABELS_LIMIT:
        raise Invalid(words + f"{len(value)} labels are more than {LABELS_LIMIT}", field="labels")
    for key, text in value.items():
        if not isinstance(key, str) or not LABEL_KEY.fullmatch(key):
            rule = "a label's name has at most 63 letters, digits, '-', '.', '_' and '/', and no sign at its ends"
            raise Invalid(words + rule, field="labels")
        if not isinstance(text, str) or len(text) > LABEL_LENGTH or not text.isprintable():
            rule = f"the label {key!r} must be text of at most {LABEL_LENGTH} printable characters"
            raise Invalid(words + rule, field="labels")
    return dict(value)


def has_alias(cluster: Cluster) -> bool:
    """Whether ``cluster`` has its alias now, so that no other of its owner can have it."""
    return bool(cluster.alias) and not cluster.state.ended and cluster.target is Target.RUNNING


def taken(alias: str, by: str) -> NameTaken:
    """Return the error that says that the cluster ``by`` of the same owner has this alias."""
    return NameTaken(
        f"cannot call the cluster {alias!r}: your cluster {by} has this name until it is stopped. Connect to that one, "
        "or choose another name"
    )
