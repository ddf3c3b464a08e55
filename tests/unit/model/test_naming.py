"""What a cluster can be called and labelled, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.store_samples import make_cluster
from tidegate.model.cluster import ClusterState, Target
from tidegate.model.errors import Invalid
from tidegate.model.naming import LABELS_LIMIT, can_be_alias, check_alias, check_labels, has_alias


@pytest.mark.parametrize("alias", ["training", "a", "7", "ice-2026.10_b", "a" * 63, "c0ffee", "a..b"])
def test_a_name_is_taken_as_it_is(alias: str) -> None:
    """Lower-case letters, digits and three signs."""
    assert check_alias(alias) == alias
    assert can_be_alias(alias)


@pytest.mark.parametrize(
    "alias", ["Training", "-a", ".", "..", "a b", "a/b", "a" * 64, "ü", "a\n", "3f9c0a51be27d846", 7, ["a"]]
)
def test_another_is_refused_by_field(alias: Any) -> None:
    """What no path or table can hold, and what the gateway itself calls clusters."""
    with pytest.raises(Invalid, match="cannot give the cluster this name") as refused:
        check_alias(alias)
    assert refused.value.field == "alias"
    assert not (isinstance(alias, str) and can_be_alias(alias))


def test_a_cluster_needs_no_name_and_no_labels() -> None:
    """Nothing and an empty field of a form are the same."""
    assert (check_alias(None), check_alias(""), check_labels(None), check_labels({})) == ("", "", {}, {})


@given(st.text(max_size=70))
def test_whatever_is_accepted_is_one_segment_of_a_path(text: str) -> None:
    """No text gets through that would be another path, or a name of the gateway's own."""
    try:
        alias = check_alias(text)
    except Invalid:
        return
    assert alias == text
    assert not alias or (can_be_alias(alias) and set(alias).isdisjoint("/?#% ") and alias.strip(".") != "")


@pytest.mark.parametrize(
    "labels",
    [
        "project=ice",
        {"project": 7},
        {7: "ice"},
        {"": "ice"},
        {"-a": "ice"},
        {"a b": "ice"},
        {"a": "x" * 201},
        {"a": "x\ny"},
        {f"k{n}": "" for n in range(LABELS_LIMIT + 1)},
    ],
)
def test_labels_are_bounded_text(labels: Any) -> None:
    """Anything else is refused by field, in a sentence."""
    with pytest.raises(Invalid, match="cannot label the cluster") as refused:
        check_labels(labels)
    assert refused.value.field == "labels"


def test_labels_are_taken_as_they_are() -> None:
    """Also with an empty value, and one in any script."""
    labels = {"project": "ice", "example.org/stage": "", "Who": "Zoë, 李"}
    assert check_labels(labels) == labels


def test_a_name_is_free_as_soon_as_its_cluster_is_to_end() -> None:
    """Not only when everything of it is gone."""
    cluster = make_cluster(alias="training")
    assert has_alias(cluster)
    assert not has_alias(make_cluster())
    assert not has_alias(replace(cluster, target=Target.STOPPED))
    assert not has_alias(replace(cluster, state=ClusterState.FAILED))
