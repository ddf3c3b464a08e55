"""The credential of the OS user who starts the gateway: made on the first start, looked after on every later one."""

from __future__ import annotations

import time
from pathlib import Path

from cryptography import x509

from tidegate.authn.tokens import mint_token
from tidegate.config.schema import Address, Settings
from tidegate.model.principal import Principal
from tidegate.server.client_config import ClientConfig, Connection, current_user
from tidegate.server.urls import listener_uid, public_url
from tidegate.store.base import Store

LABEL = "first start of the gateway"


async def leave_credential(store: Store, settings: Settings, address: Address) -> list[str]:
    """See to it that ``Gateway()`` works for the user who starts the gateway; return sentences about what was done.

    A token from an earlier start is kept while this store knows it, so that nothing changes under running notebooks.
    """
    user = current_user()
    config = ClientConfig(settings.data)
    secret = config.token()
    known = await store.find_token(secret) if secret else None
    if secret is None or known is None or known.principal.name != user:
        secret = await _replace_token(store, Principal(user, admin=True))
    authority = _authority(settings.tls.cert)
    url = public_url(settings, address)
    return config.leave(Connection(url, user, secret, authority, settings.proxy_address, listener_uid(url)))


async def _replace_token(store: Store, principal: Principal) -> str:
    """Make a token and remove those of earlier starts: whoever deletes the file wants its token gone."""
    earlier = [token for token in await store.list_tokens(principal.name) if token.label == LABEL]
    _, secret = await mint_token(store, principal, LABEL, now=time.time())
    for token in earlier:
        await store.remove_token(token.id)
    return secret


def _authority(cert: Path | None) -> str | None:
    """Return the certificate's own file where no authority vouches for it: then clients have to be told to trust it."""
    if cert is None:
        return None
    certificate = x509.load_pem_x509_certificate(cert.read_bytes())
    return str(cert) if certificate.issuer == certificate.subject else None
