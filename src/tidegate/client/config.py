"""Which gateway is meant, and how to talk to it: from arguments, then ``tidegate:``, then ``gateway:``.

Both sections of the Dask configuration have the same keys; ``gateway:`` is dask-gateway's, so that a notebook that was
set up for it works unchanged::

    tidegate:
      address: https://dask.example.org     # of the gateway
      public-address: null                  # of the gateway as a browser sees it, for links
      proxy-address: null                   # host:port, or a port, where schedulers are reached
      auth: {type: token, kwargs: {token: "{MY_TOKEN}"}}
      ca-file: null                         # authority to trust for https, beside the usual ones (tidegate: only)
      listener-uid: null                    # OS user whom a gateway on this machine belongs to (tidegate: only)
      http-client: {proxy: true}            # true: from the environment; or an address; or false
      cluster: {options: {worker_cores: 2}} # what new_cluster() asks for by default

Every text may name environment variables as ``{NAME}``. Where there are no ``kwargs``, ``auth: jupyterhub`` will do.

A section that names an address describes *that* gateway. So a ``tidegate:`` section with an address stands alone, and
credentials that are written in a section are sent to no other address than the section's own.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import dask.config

from tidegate.client.errors import GatewayValueError

SECTIONS = ("tidegate", "gateway")
PORTS = {"http": 80, "https": 443}
GIVEN_AUTH = "the argument `auth`"


@dataclass(frozen=True)
class Settings:
    """How to talk to one gateway.

    Parameters
    ----------
    address : str
        Base URL of the gateway, without a slash at its end.
    source : str
        Where that address comes from, to be named when nobody answers there.
    public_address : str
        Base URL of links for a browser.
    proxy_address : str or None
        ``host:port`` where schedulers are reached, if someone said so; else the gateway tells, or it is its own.
    auth_type : object
        A name, a class or an instance (see ``auth.make_auth``); None for no credentials.
    auth_kwargs : mapping
        What to make it from.
    auth_source : str
        Where the credentials come from, to be named when they are refused.
    auth_meant_for : str
        The gateway that the credentials in ``auth_source`` are for, if that is another one: then none are sent.
    http_proxy : bool or str
        HTTP proxy: from the environment, none, or its address.
    ca_file : str or None
        File of authorities to trust for https besides the usual ones.
    options : mapping
        Default cluster options.
    listener_uid : int or None
        The OS user as whom a gateway on this machine listens (see ``listener.py``).
    on_behalf_of : str or None
        The user on whose behalf an administrator asks. Never from the configuration: nobody acts for others unawares.
    """

    address: str
    source: str
    public_address: str
    proxy_address: str | None = None
    auth_type: Any = "basic"
    auth_kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    auth_source: str = "the default"
    auth_meant_for: str = ""
    http_proxy: bool | str = True
    ca_file: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    listener_uid: int | None = None
    on_behalf_of: str | None = None

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the gateway is reached over loopback, where no HTTP proxy reaches."""
        host = urlsplit(self.address).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")

    def scheduler_netloc(self, told_by_gateway: str | None = None) -> str:
        """Return ``host:port`` where schedulers are reached: as configured, as the gateway tells, or its own."""
        given = self.proxy_address or (told_by_gateway and _netloc(told_by_gateway, "the gateway's proxy_address"))
        if given:
            return given
        parts = urlsplit(self.address)
        return _join(parts.hostname or "", parts.port or PORTS.get(parts.scheme, 8786))

    def proxy_for_http(self) -> str | None:
        """Return the HTTP proxy to go through, or None."""
        parts = urlsplit(self.address)
        host = parts.hostname or ""
        if isinstance(self.http_proxy, str):
            return self.http_proxy
        if not self.http_proxy or self.is_on_this_machine:
            return None
        if urllib.request.proxy_bypass(host):
            return None
        return urllib.request.getproxies().get(parts.scheme)


def resolve(
    address: str | None = None,
    proxy_address: str | int | None = None,
    public_address: str | None = None,
    auth: Any = None,
    on_behalf_of: str | None = None,
) -> Settings:
    """Find the gateway and how to talk to it.

    Raises
    ------
    GatewayValueError
        When there is no address, or a setting makes no sense; the message names the setting.
    """
    given = address.strip().rstrip("/") if address is not None else None
    sections = _sections_for(given)
    found_address, source = given, "the argument `address`"
    if found_address is None:
        found_address, source = _find_address(sections)
    url = _check_address(found_address, source)
    found_proxy = proxy_address if proxy_address is not None else _first(sections, "proxy-address")
    found_public = public_address if public_address is not None else _first(sections, "public-address")
    found_auth = _find_auth(sections, url, auth)
    http_proxy = _first(sections, "http-client.proxy")
    return Settings(
        address=url,
        source=source,
        public_address=str(found_public).rstrip("/") if found_public else url,
        proxy_address=_check_proxy(found_proxy, url),
        auth_type=found_auth.kind,
        auth_kwargs=found_auth.kwargs,
        auth_source=found_auth.source,
        auth_meant_for=found_auth.meant_for,
        http_proxy=True if http_proxy is None else http_proxy,
        ca_file=_first(sections, "ca-file"),
        options=_first(sections, "cluster.options") or {},
        listener_uid=_check_uid(_first(sections, "listener-uid")),
        on_behalf_of=_check_user(on_behalf_of),
    )


def _sections_for(address: str | None) -> list[str]:
    """Return the sections that speak of the gateway at ``address`` (None: of the configured one), in their order."""
    if not dask.config.get("tidegate.address", default=None):
        return list(SECTIONS)
    if address is None or _speaks_of("tidegate", address):
        return ["tidegate"]
    # dask-gateway takes what `gateway:` says for any address that it is given; only its secrets are held back here.
    return ["gateway"]


def _speaks_of(section: str, address: str) -> bool:
    known = []
    for key in ("address", "public-address"):
        with suppress(GatewayValueError):  # a template of another gateway that cannot be filled here
            known.append(_get(f"{section}.{key}"))
    return any(_origin(str(one)) == _origin(address) for one in known if one)


def _find_address(sections: list[str]) -> tuple[str, str]:
    for section in sections:
        if value := _get(f"{section}.address"):
            return str(value).strip().rstrip("/"), where_set(f"{section}.address")
    raise GatewayValueError(
        "cannot find a gateway: no address was given, and the Dask configuration has neither `tidegate.address` nor "
        "`gateway.address`. Start one with `tidegate serve`, or give its address: Gateway('https://...')"
    )


@dataclass(frozen=True)
class _Auth:
    """How to log in: ``kind`` made from ``kwargs``, set in ``source``; or why the credentials there are not for us."""

    kind: Any
    source: str
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    meant_for: str = ""


def _find_auth(sections: list[str], url: str, given: Any) -> _Auth:
    """Return how to log in.

    The arguments in a section are secrets: they belong to the gateway and to the kind of log-in that it names.
    """
    for section in sections:
        kind, kwargs = _get(f"{section}.auth.type"), _get(f"{section}.auth.kwargs") or {}
        if isinstance(short := _get(f"{section}.auth"), str):
            kind = short
        if not kind and not kwargs:
            continue
        source = where_set(f"{section}.auth")
        if given is not None:
            return _Auth(given, GIVEN_AUTH, kwargs if given == kind and _may_send(section, url) else {})
        if kwargs and not _may_send(section, url):
            return _Auth(None, source, meant_for=str(_get(f"{section}.address")))
        return _Auth(kind or "basic", source, kwargs)
    return _Auth(given or "basic", GIVEN_AUTH if given is not None else "nothing: no `auth` was given or configured")


def _may_send(section: str, url: str) -> bool:
    return not dask.config.get(f"{section}.address", default=None) or _speaks_of(section, url)


def _first(sections: list[str], key: str) -> Any:
    for section in sections:
        value = _get(f"{section}.{key}")
        if value is not None:
            return value
    return None


def _get(key: str) -> Any:
    return _fill(dask.config.get(key, default=None), key)


def _fill(value: Any, key: str) -> Any:
    """Replace ``{NAME}`` by the environment variable of that name, in texts at any depth."""
    if isinstance(value, Mapping):
        return {k: _fill(v, f"{key}.{k}") for k, v in value.items()}
    if not isinstance(value, str) or "{" not in value:
        return value
    try:
        return value.format_map(os.environ)
    except KeyError as error:
        raise GatewayValueError(
            f"cannot read the configuration `{key}`: the environment variable {error.args[0]} is not set"
        ) from None
    except (ValueError, IndexError, AttributeError):
        raise GatewayValueError(
            f"cannot read the configuration `{key}`: write environment variables as {{NAME}}, and a brace as {{{{"
        ) from None


def _check_address(address: str, source: str) -> str:
    parts = _split(address, source)
    if parts.scheme not in PORTS or not parts.hostname:
        raise GatewayValueError(
            f"cannot use {address!r} as the address of a gateway ({source}): write a URL such as https://dask.example.org"
        )
    if parts.username or parts.password:
        raise GatewayValueError(
            f"cannot use credentials in the address of a gateway ({source}): give them as `auth`, "
            "for addresses end up in logs"
        )
    return address


def _check_proxy(value: Any, address: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit()):
        return _join(urlsplit(address).hostname or "", int(value))
    return _netloc(str(value), "proxy_address")


def _check_uid(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise GatewayValueError(f"cannot use {value!r} as `listener-uid`: write the number of an OS user")


def _check_user(name: str | None) -> str | None:
    if name is not None and not name.strip():
        raise GatewayValueError(f"cannot act on behalf of {name!r}: give the name of a user, or None for yourself")
    return name


def _netloc(text: str, what: str) -> str:
    """Return ``host:port`` of an address with or without a scheme."""
    parts = _split(text if "://" in text else f"//{text}", what)
    if not parts.hostname:
        raise GatewayValueError(f"cannot use {text!r} as {what}: write host:port")
    return _join(parts.hostname, parts.port or PORTS.get(parts.scheme, 8786))


def _split(text: str, what: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise GatewayValueError(f"cannot use {text!r} as {what}: {error}") from None
    return parts


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def where_set(key: str) -> str:
    """Say where a configuration key comes from: an environment variable, a file, or the program itself.

    Dask merges all of them and keeps no record; environment variables win over files, later files over earlier ones.
    """
    variable = "DASK_" + key.upper().replace(".", "__").replace("-", "_")
    for name in os.environ:
        if name.upper() == variable or name.upper().startswith(f"{variable}__"):
            return f"`{key}` in the environment variable {name}"
    found = None
    for file in _configuration_files():
        # Only a hint in a message: what Dask cannot read has no say in it.
        with suppress(ValueError, OSError):
            for content in dask.config.collect_yaml([str(file)]):
                value: Any = content
                for part in key.split("."):
                    value = value.get(part, value.get(part.replace("-", "_"))) if isinstance(value, Mapping) else None
                found = file if value is not None else found
    return f"`{key}` in {found}" if found else f"`{key}` in the Dask configuration of this program"


def _configuration_files() -> Iterator[Path]:
    """Yield the files that Dask reads, in its order."""
    for path in map(Path, dask.config.paths):
        if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
            yield from sorted(file for file in path.iterdir() if file.suffix.lower() in (".json", ".yaml", ".yml"))
        elif path.is_file():
            yield path
