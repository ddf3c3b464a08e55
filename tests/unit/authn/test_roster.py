"""Who belongs to what by the configuration."""

from __future__ import annotations

from tidegate.authn.roster import Roster
from tidegate.model.principal import Principal


def test_who_stands_in_for_somebody_does_not_lend_them_a_notebook() -> None:
    """A cluster that an administrator makes for another does not end with the administrator's notebook server."""
    root = Principal("root", frozenset({"operators"}), admin=True, method="jupyterhub", server="root/")
    stand_in = Roster(groups={"hydro": ["bob"]}).stand_in(root, "bob")
    assert stand_in == Principal("bob", frozenset({"hydro"}), method="jupyterhub", actor="root")
