"""Who may do what."""

from __future__ import annotations

import pytest

from tests.unit.model.samples import make_cluster
from tidegate.model.permissions import Action, may
from tidegate.model.principal import Principal


@pytest.mark.parametrize("action", Action)
def test_a_cluster_is_its_owners_and_nobody_elses(action):
    """Neither a name that differs in case nor administration opens somebody's cluster."""
    assert may(Principal("alice"), action, make_cluster())
    for other in (Principal("Alice"), Principal("mallory", frozenset({"alice"})), Principal("root", admin=True)):
        assert not may(other, action, make_cluster())
