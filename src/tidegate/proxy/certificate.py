"""The certificate of the public port, as its files are now.

Certificates are renewed every few weeks, and nobody wants to restart a gateway for it, or to remember which signal to
send to whom. So the files are looked at when a connection comes, at most every ten seconds; and at once when the
gateway is started again, for whoever does that expects the new ones. A certificate and a key that do not belong
together (only one of the two files is written yet) are not used: the old ones serve until both fit.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 10.0
"""How old what is known of the files may be."""

_Version = tuple[tuple[int, int, int], ...]

logger = logging.getLogger(__name__)


class Certificate:
    """What the public port speaks TLS with.

    Parameters
    ----------
    cert, key : Path
        PEM files.
    clock : callable
        Seconds, monotonic.

    Raises
    ------
    OSError, ssl.SSLError
        The files cannot be used, at the start.
    """

    def __init__(self, cert: Path, key: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._cert = cert
        self._key = key
        self._clock = clock
        self._version = self._look()
        self._context = self._load()
        self._looked_at = clock()

    def context(self) -> ssl.SSLContext:
        """Return the context for one more connection; those that are open go on with the one they began with."""
        if self._clock() - self._looked_at >= LOOK_SECONDS:
            self.refresh()
        return self._context

    def refresh(self) -> None:
        """Look at the files now."""
        self._looked_at = self._clock()
        try:
            version = self._look()
            if version == self._version:
                return
            self._context = self._load()
        except (OSError, ssl.SSLError) as error:
            logger.error("cannot use the new certificate in %s, the one before is used: %s", self._cert, error)
        else:
            self._version = version
            logger.info("a new certificate is used, from %s", self._cert)

    def _look(self) -> _Version:
        """Return by what a change of the files is known: links of renewal tools point to other files then."""
        found = (os.stat(self._cert), os.stat(self._key))
        return tuple((status.st_mtime_ns, status.st_ino, status.st_size) for status in found)

    def _load(self) -> ssl.SSLContext:
        # A new one each time: one that has loaded half of what does not fit together is spoilt.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._cert, self._key)
        return context
