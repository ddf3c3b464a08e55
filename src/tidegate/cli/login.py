"""``tidegate login``: from a terminal to a token, by the login page of one's organisation."""

from __future__ import annotations

import socket
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from tidegate.cli.gateway import Address
from tidegate.client.auth import GatewayAuth
from tidegate.client.errors import GatewayAuthError, GatewayValueError
from tidegate.client.gateway import Gateway
from tidegate.client.saved import check_is_ours, login_file, save_login

DEVICE = "/api/v2/login/device"

SLOWER_SECONDS = 5.0
"""More between two questions after one that came too soon (RFC 8628, 3.5)."""


def login(
    address: Address = None,
    days: Annotated[
        float | None, typer.Option(metavar="N", help="How long it is good; else as the gateway has it.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="To see and read, and nothing else.")] = False,
    show: Annotated[bool, typer.Option("--print", help="Print the token instead of saving it.")] = False,
) -> None:
    """Log in by a page in your browser, and save a token, so that Gateway() works in your notebooks."""
    path = login_file()
    if not show:
        check_is_ours(path)
    # What the configuration has to log in with is perhaps what no longer works.
    with Gateway(address, auth=GatewayAuth()) as gateway:
        begun = _begin(gateway)
        typer.echo(f"Open {begun['page']} in a browser, on whatever machine, and type this code:", err=True)
        typer.echo(f"\n    {begun['user_code']}\n", err=True)
        if begun["whole_page"]:
            typer.echo(f"Or open the page with the code in it: {begun['whole_page']}\n", err=True)
        wanted = {"label": f"tidegate login on {socket.gethostname()}"[:100], "days": days}
        wanted["scope"] = "read-only" if read_only else "full"
        token = _wait(gateway, begun, wanted)
        if show:
            typer.echo(token["secret"])
        else:
            save_login(path, gateway._settings, token["secret"])
            until = f"{datetime.fromtimestamp(token['expires_at']):%Y-%m-%d %H:%M}"
            typer.echo(f"You are {token['user']} at {gateway.address} until {until}: Gateway() goes there ({path}).")


def _begin(gateway: Gateway) -> dict[str, Any]:
    try:
        begun: dict[str, Any] = gateway.sync(gateway._http.request, "POST", DEVICE, json={})
    except GatewayValueError as error:
        if error.code != "not-found":
            raise
        where = f"{gateway._settings.public_address}/tokens"
        raise GatewayValueError(
            f"cannot log in from a terminal at {gateway.address}: this gateway has no login for it. Log in in a "
            f"browser at {where}, make a token there, and give it to Gateway: auth=TokenAuth('tdg_...')"
        ) from None
    return begun


def _wait(gateway: Gateway, begun: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the token that is made when the code has been typed."""
    until = time.monotonic() + begun["seconds"]
    pause = begun["interval"]
    question = {"handle": begun["handle"], "token": wanted}
    while time.monotonic() < until:
        time.sleep(pause)
        answer: dict[str, Any] = gateway.sync(gateway._http.request, "POST", f"{DEVICE}/token", json=question)
        if "secret" in answer:
            return answer
        pause += SLOWER_SECONDS if answer["slower"] else 0
    raise GatewayAuthError("cannot log in: nobody typed the code in time. Begin again: tidegate login")
