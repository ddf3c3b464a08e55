"""``tidegate version``: what this is, and what the gateway is."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from tidegate.cli.gateway import Address, AsJson
from tidegate.client.errors import GatewayError
from tidegate.client.gateway import Gateway
from tidegate.client.versions import local_versions


def version(
    address: Address = None,
    as_json: AsJson = False,
    client_only: Annotated[bool, typer.Option("--client", help="Do not ask the gateway.")] = False,
) -> None:
    """Show the versions of this client and of the gateway."""
    from tidegate import __version__

    found: dict[str, Any] = {"client": {"version": __version__, **local_versions()}}
    if not client_only:
        found["gateway"] = _ask(address)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    rest = ", ".join(f"{name} {number}" for name, number in local_versions().items())
    typer.echo(f"tidegate {__version__} ({rest})")
    if not client_only:
        gateway = found["gateway"]
        typer.echo(gateway.get("error") or f"gateway {gateway['version']} at {gateway['address']}")


def _ask(address: str | None) -> dict[str, Any]:
    """Return the gateway's version and address, or why there is none: this command works without a gateway."""
    try:
        with Gateway(address) as gateway:
            return {"address": gateway.address, **gateway.get_versions()["server"]}
    except GatewayError as error:
        return {"error": str(error)}
