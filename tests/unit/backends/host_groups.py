"""What this host lets tests do with control groups."""

from __future__ import annotations

import secrets

import pytest

from tidegate.backends.local.groups import KEPT, Groups


def find_kept() -> frozenset[str]:
    """Return which limits the kernel keeps for groups that are made here."""
    groups = Groups()
    groups.prepare(f"test-{secrets.token_hex(4)}")
    return groups.kept


needs_groups = pytest.mark.skipif(find_kept() != set(KEPT), reason="this host lets us make no groups with all limits")
