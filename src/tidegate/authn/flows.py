"""A login that goes by another page: what the browser, or the terminal, has to bring back, sealed.

Between the two steps nothing is kept here, so either may be served by any control process, also after a restart. The
cookie ties the return to the browser that began: a link that somebody else began opens nothing (login CSRF).
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from cryptography.fernet import Fernet, InvalidToken

FLOW_SECONDS = 600
"""Ten minutes to type a password, and a second factor, at the other page."""


def flow_cookie(scheme: str) -> str:
    """Return the name of the cookie that holds a login which has begun.

    With ``__Host-`` browsers take it from this very host only (RFC 6265bis, 4.1.3): a dashboard on a host below ours
    cannot put its own login in the place of the viewer's. That demands ``Path=/``, also where other services have paths
    of this host; what they are sent is sealed.
    """
    return "__Host-tidegate-login" if scheme == "https" else "tidegate-login"


@dataclass(frozen=True, slots=True)
class Flow:
    """A login that has begun.

    Parameters
    ----------
    method : str
        Which authenticator.
    secret : str
        What it needs to complete it.
    after : str
        The path to go on to.
    """

    method: str
    secret: str = field(repr=False)
    after: str


class Flows:
    """Seals and opens them.

    Parameters
    ----------
    key : callable
        Returns a secret that all control processes of this gateway share, at least 32 bytes.
    clock : callable
        Returns the time in seconds since the epoch.
    """

    def __init__(self, key: Callable[[], bytes], clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def seal(self, flow: Flow) -> str:
        """Return the cookie's value."""
        return self._fernet().encrypt_at_time(json.dumps(asdict(flow)).encode(), int(self._clock())).decode()

    def open(self, value: str | None) -> Flow | None:
        """Return the login that this browser began, or None when it is forged, too old or none."""
        try:
            text = self._fernet().decrypt_at_time((value or "").encode(), FLOW_SECONDS, int(self._clock()))
        except (InvalidToken, UnicodeEncodeError):
            return None
        return Flow(**json.loads(text))

    def _fernet(self) -> Fernet:
        digest = hashlib.sha256(b"tidegate login flow" + self._key()).digest()
        return Fernet(base64.urlsafe_b64encode(digest))
