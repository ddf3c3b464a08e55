"""Groups and administrators that the configuration names, added to what an authenticator vouches for.

An authenticator knows who somebody is, and perhaps their groups. What this gateway makes of it is decided here, at each
request: whoever is taken off the list is no administrator from the next start on, whatever a token or a session that
was made before says. A role by group is for those whose groups somebody vouches for now: a token stores groups, but in
a token only those count that the configuration gives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from tidegate.model.principal import Principal


@dataclass(frozen=True)
class Roster:
    """Who belongs to what, by the configuration.

    Parameters
    ----------
    admins : collection of str
        Users who administer the gateway.
    admin_groups : collection of str
        Groups whose members do.
    groups : mapping
        To each group its members.
    """

    admins: Collection[str] = ()
    admin_groups: Collection[str] = ()
    groups: Mapping[str, Collection[str]] = field(default_factory=dict)

    def place(self, principal: Principal) -> Principal:
        """Return the same user with all groups and the role that they have here."""
        named = self.groups_of(principal.name)
        groups = principal.groups | named
        # What a token says of groups was true when it was made. That is not enough for the role.
        vouched = named if principal.token else groups
        admin = principal.admin or principal.name in self.admins or not vouched.isdisjoint(self.admin_groups)
        if groups == principal.groups and admin == principal.admin:
            return principal
        return replace(principal, groups=groups, admin=admin)

    def stand_in(self, admin: Principal, name: str) -> Principal:
        """Return the user ``name`` as ``admin`` acts on their behalf: with the groups that they have here, and no role.

        What the administrator's credential is good for, and until when, stays.
        """
        principal = replace(admin, name=name, groups=frozenset(), admin=False, actor=admin.name, server="")
        return replace(principal, groups=self.groups_of(principal.name))

    def to_store(self, principal: Principal) -> Principal:
        """Return what of a user may be stored with a token: no role, and no group that the configuration gives."""
        groups = principal.groups - self.groups_of(principal.name)
        return Principal(principal.name, groups, method=principal.first_method)

    def groups_of(self, name: str) -> frozenset[str]:
        """Return the groups that the configuration gives a user."""
        return frozenset(group for group, members in self.groups.items() if name in members)
