"""Grantees as they are written, and the leaves that stand on shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.errors import Invalid
from tidegate.model.principal import Principal
from tidegate.model.share import ClientLeaf, Grantee, GranteeKind, Right, Share, grantees_of, withdraw_leaves

BOB = Grantee(GranteeKind.USER, "bob")
PHYSICS = Grantee(GranteeKind.GROUP, "physics")


def share(grantee: Grantee, right: Right = Right.USE) -> Share:
    """Return a share of alice's."""
    return Share(grantee, right, 0.0, "alice")


@given(st.sampled_from(GranteeKind), st.text(min_size=1, max_size=300))
def test_what_is_written_is_read(kind: GranteeKind, name: str) -> None:
    """Whatever is accepted comes back as it was, and what is refused has a reason."""
    grantee = Grantee(kind, name)
    plausible = name.isprintable() and name == name.strip() and len(name) <= 255
    if plausible:
        assert Grantee.parse(str(grantee)) == grantee
    else:
        with pytest.raises(Invalid, match="1 to 255 printable characters") as refused:
            Grantee.parse(str(grantee))
        assert refused.value.field == "grantee"


@pytest.mark.parametrize("text", ["", "bob", "User:bob", "link:bob", ":bob", "user", "user:"])
def test_who_is_neither_is_refused(text: str) -> None:
    """There are users and groups."""
    with pytest.raises(Invalid):
        Grantee.parse(text)


def test_a_grantee_means_a_user_or_the_members_of_a_group() -> None:
    """By the groups that somebody vouches for now; a group of the user's name is another thing."""
    bob = Principal("bob", frozenset({"physics"}))
    assert [grantee for grantee in (BOB, PHYSICS) if grantee.includes(bob)] == grantees_of(bob) == [BOB, PHYSICS]
    assert not BOB.includes(Principal("physics", frozenset({"bob"})))
    assert not PHYSICS.includes(Principal("physics", frozenset({"bob"})))


def test_a_leaf_lasts_as_long_as_one_of_its_shares() -> None:
    """To look at is not to use; a leaf that is withdrawn stays so when the share comes back."""
    leaf = ClientLeaf("ab", "bob", (PHYSICS, BOB))
    assert withdraw_leaves((leaf,), [share(BOB)]) == (leaf,)
    assert withdraw_leaves((leaf,), [share(PHYSICS), share(BOB, Right.VIEW)]) == (leaf,)
    (gone,) = withdraw_leaves((leaf,), [share(BOB, Right.VIEW)])
    assert gone.withdrawn
    assert withdraw_leaves((gone,), [share(BOB), share(PHYSICS)]) == (gone,)


def test_other_leaves_stay() -> None:
    """Each stands for itself."""
    leaves = (ClientLeaf("1", "bob", (BOB,)), ClientLeaf("2", "carol", (PHYSICS,)))
    assert [leaf.withdrawn for leaf in withdraw_leaves(leaves, [share(PHYSICS)])] == [True, False]
