"""Groups and administrators that the configuration names, added to what an authenticator vouches for.

An authenticator knows who somebody is, and perhaps their groups. What this gateway makes of it is decided here, at each
request: whoever is taken off the list is no administrator from the next start on, whatever a token or a session that
was made before says.
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
        named = {group for group, members in self.groups.items() if principal.name in members}
        groups = principal.groups | named
        admin = principal.admin or principal.name in self.admins or not groups.isdisjoint(self.admin_groups)
        return replace(principal, groups=groups, admin=admin)
