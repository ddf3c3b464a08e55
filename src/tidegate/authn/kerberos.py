"""Kerberos: whoever has a ticket for this gateway is known by their principal (SPNEGO over HTTP, RFC 4559).

The caller sends a ticket that only the holder of the gateway's key, in its keytab, can read. Nobody is asked: the
ticket proves who they are, and the answer carries the proof that we could read it, by which the caller knows *us*. The
official dask-gateway client shows nothing of an answer that lacks this proof, not even an error's words.

HTTP requests stand alone, so everything must be said in one message each way: a mechanism that needs more is refused.
A message counts once; the system's replay cache sees to that, also across processes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tidegate.authn.base import Accepted, NotAdmitted, Presented
from tidegate.model.errors import Invalid
from tidegate.model.principal import Principal
from tidegate.settings import FilePath, Section

LONGEST = 64 * 1024
"""Bytes of a message. Tickets of people in hundreds of groups of an Active Directory have up to 48 KiB."""

THREADS = 2
"""How many are read at a time: each takes 0.1 ms and waits for the file of the replay cache."""

KERBEROS = "1.2.840.113554.1.2.2"
"""The mechanism behind SPNEGO that counts (RFC 4121). The system may know others, such as NTLM, that prove less."""

PRINCIPAL = re.compile(r"((?:[^@\\]|\\.)+)@((?:[^@\\]|\\.)+)", re.DOTALL)
"""Name and realm as Kerberos writes them; an ``@`` that belongs to either has a backslash before it."""

log = logging.getLogger(__name__)


class KerberosSettings(Section):
    """Tickets of a Kerberos realm. Needs the package ``gssapi`` (``pip install 'tidegate[kerberos]'``)."""

    keytab: FilePath | None = None
    """Keytab with the key of ``HTTP/<host name of the gateway>``. By default the system's: what ``KRB5_KTNAME`` names,
    or ``/etc/krb5.keytab``."""
    service: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(@[A-Za-z0-9._-]+)?$")] = "HTTP"
    """The service whose tickets count. Clients ask for ``HTTP``; with ``@<host name>`` only those for that name, else
    for any name that the keytab has a key for."""
    realms: tuple[str, ...] = ()
    """Realms whose users may come. Those of the first are known by their name alone (``alice``), those of the others
    with their realm (``alice@OTHER.REALM``), for they are other people. By default the realm of the gateway's own
    key."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What a message said: principals of caller and service, and what to answer."""

    client: str
    service: str
    reply: bytes = field(repr=False)


class KerberosAuthenticator:
    """Knows people by their Kerberos tickets.

    Parameters
    ----------
    data : Path
        The gateway's data folder; nothing is kept in it.
    settings : KerberosSettings, optional

    Raises
    ------
    Invalid
        When the package ``gssapi`` is missing.
    """

    Settings = KerberosSettings
    scheme = "Negotiate"

    def __init__(self, data: Path, settings: KerberosSettings | None = None) -> None:
        self._settings = settings or KerberosSettings()
        try:
            self._gssapi: Any = import_module("gssapi")
        except (ImportError, OSError) as error:
            raise Invalid(
                "cannot use authentication.logins.kerberos: the package gssapi cannot be imported. On Debian: apt-get "
                "install gcc python3-dev libkrb5-dev, then pip install 'tidegate[kerberos]'",
                detail=str(error),
            ) from None
        self._key: Any = None
        self._threads = ThreadPoolExecutor(THREADS, "kerberos")

    async def start(self) -> None:
        """Find the key.

        Raises
        ------
        Invalid
            When there is none that can be read.
        """
        gssapi, chosen = self._gssapi, self._settings
        store = {"keytab": str(chosen.keytab)} if chosen.keytab else None
        try:
            service = gssapi.Name(chosen.service, gssapi.NameType.hostbased_service)
            self._key = gssapi.Credentials(name=service, usage="accept", store=store)
        except gssapi.exceptions.GSSError as error:
            where = f"authentication.logins.kerberos.keytab {chosen.keytab}" if chosen.keytab else "the system's keytab"
            raise Invalid(
                f"cannot find a key of the service {chosen.service} in {where}: {explain(error)}. Make one with "
                "kadmin: addprinc -randkey HTTP/<host name>; ktadd -k <keytab> HTTP/<host name>; and let the gateway's "
                "account read it"
            ) from None

    async def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def authenticate(self, presented: Presented) -> Accepted | None:
        """Return whose ticket a Negotiate credential brings, and our proof to them, or None.

        Raises
        ------
        NotAdmitted
            When the ticket is good, but of a realm whose users may not come.
        """
        if presented.scheme != "negotiate" or len(presented.value) > LONGEST * 4 // 3 + 4:
            return None
        try:
            message = base64.b64decode(presented.value.encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        read = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, message)
        if read is None:
            return None
        reply = "Negotiate " + base64.b64encode(read.reply).decode() if read.reply else None
        name = user_name(read.client, read.service, self._settings.realms)
        if name is None:
            log.warning("kerberos: %s may not come: its realm is not in authentication.logins.kerberos", read.client)
            raise NotAdmitted(
                f"Kerberos knows you as {read.client}, but users of this realm may not use this gateway. Its "
                "administrator can name the realm in authentication.logins.kerberos.realms",
                reply=reply,
            )
        return Accepted(Principal(name, method="kerberos"), reply)

    def _read(self, message: bytes) -> _Read | None:
        """Return what a message says, or None when it proves nothing; the log says why."""
        gssapi = self._gssapi
        try:
            context = gssapi.SecurityContext(creds=self._key, usage="accept")
            reply = context.step(message)
            # An error that has an answer of its own, such as a replay's, is raised only here.
            if not context.complete:
                log.warning("kerberos: refused a client whose mechanism needs more than one message")
                return None
            if context.mech.dotted_form != KERBEROS or gssapi.RequirementFlag.anonymity in context.actual_flags:
                log.warning("kerberos: refused a client that is anonymous, or not known by Kerberos itself")
                return None
            return _Read(str(context.initiator_name), str(context.target_name), reply or b"")
        except gssapi.exceptions.GSSError as error:
            log.warning("kerberos: refused a client: %s", explain(error))
            return None


def user_name(client: str, service: str, realms: Sequence[str] = ()) -> str | None:
    """Return the name by which a principal is known here, or None when its realm's users may not come.

    Parameters
    ----------
    client, service : str
        The caller's principal, and the gateway's own.
    realms : sequence of str
        Whose users may come; the gateway's own realm where none is named.

    >>> user_name("alice@A.ORG", "HTTP/gateway@A.ORG")
    'alice'
    >>> user_name("alice@B.ORG", "HTTP/gateway@A.ORG", ["A.ORG", "B.ORG"])
    'alice@B.ORG'
    """
    who, own = PRINCIPAL.fullmatch(client), PRINCIPAL.fullmatch(service)
    if who is None or own is None:
        return None
    allowed = realms or (own[2],)
    if who[2] not in allowed:
        return None
    return who[1] if who[2] == allowed[0] else client


def explain(error: Any) -> str:
    """Return what Kerberos itself says of an error, without GSSAPI's own numbers, on one line."""
    code, is_major = (error.min_code, False) if error.min_code else (error.maj_code, True)
    words = error.get_all_statuses(code, is_major)
    return " ".join("; ".join(words).split())
