"""Whether somebody who logged in earlier could still do so.

A session and a personal token outlive the login that they came of. Where an authenticator keeps the people itself
(``KeepsUsers``, the file of passwords), it is asked again whenever one of them is shown. A session that was begun with
a password ends when there is another password, and both end when the user is removed. A token does not end with the
password: it is a credential of its own, which is revoked by itself.

Nobody shows anything for a dashboard that is open. So what vouches for its viewer is written into its ticket, and here
is seen when that is gone (``run``).

Of people whom another service knows (a Hub, a provider) nothing is known until they log in again. Their sessions live
as long as the configuration says.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from tidegate.authn.base import Authenticator, KeepsUsers, NotAdmitted
from tidegate.authn.sessions import Session
from tidegate.model.errors import Busy, TidegateError
from tidegate.model.principal import Principal

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two looks for who is gone: each costs a call of stat(2)."""


async def ends_nothing(by: str) -> None:
    """Stand for the proxies where there are none."""


class Entries:
    """Asks the authenticators that keep people.

    Parameters
    ----------
    logins : mapping
        The authenticators by name, which is the ``method`` of those for whom they vouch.
    gone : callable
        Ends what is open because of an entry that is no more.
    """

    def __init__(
        self, logins: Mapping[str, Authenticator], gone: Callable[[str], Awaitable[None]] = ends_nothing
    ) -> None:
        self._keepers = {name: login for name, login in logins.items() if isinstance(login, KeepsUsers)}
        self._gone = gone
        self._seen: dict[str, frozenset[str]] = {}

    def of(self, principal: Principal) -> str:
        """Return what vouches now for who logged in, beside their session or token; empty if nothing does."""
        keeper = self._keepers.get(principal.first_method)
        if keeper is None:
            return ""
        with suppress(TidegateError):
            return keeper.entries().get(principal.actor or principal.name, "")
        return ""

    def check(self, principal: Principal) -> None:
        """Make sure that the owner of a personal token is still among those whom the authenticator keeps.

        Raises
        ------
        NotAdmitted
            They have been removed.
        Busy
            Nobody knows.
        """
        keeper = self._keepers.get(principal.first_method)
        if keeper is None:
            return
        try:
            is_known = principal.name in keeper.entries()
        except TidegateError as error:
            words = f"cannot check whether {principal.name} is still among the users of this gateway. Try again later"
            raise Busy(words, detail=error.message) from None
        if not is_known:
            raise NotAdmitted(
                f"cannot use this token: {principal.name}, whose it is, is no longer among the users of this gateway. "
                "Ask its administrator"
            )

    def still_hold(self, session: Session) -> bool:
        """Return whether a session could begin now as it did."""
        principal = session.principal
        if principal.first_method not in self._keepers:
            return True
        entry = self.of(principal)
        # A token does not end with the password.
        return bool(entry) if principal.token else bool(entry) and hmac.compare_digest(entry, session.entry)

    async def run(self) -> None:
        """Look again and again who is gone, until cancelled."""
        while self._keepers:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """End what is open because of entries that are no more, or others now. Where nobody knows, nothing is ended."""
        for method, keeper in self._keepers.items():
            try:
                found = frozenset(keeper.entries().values())
                for entry in self._seen.get(method, found) - found:
                    await self._gone(entry)
                self._seen[method] = found
            except TidegateError as error:
                log.warning("cannot see who has been removed: %s", error.message)
