"""``tidegate users``: who may log in by a password."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.config import ConfigFile, read_config, sentences

if TYPE_CHECKING:
    from tidegate.authn.users import UserFile

app = typer.Typer(help="Who may log in by a name and a password (for `authentication.logins.passwords`).")

Name = Annotated[str, typer.Argument(metavar="NAME")]
Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The gateway's data folder.")]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="GROUP", help="A group that the user belongs to; may be repeated."),
]


@app.command("list")
def list_users(config: ConfigFile = None, data: Data = None) -> None:
    """List the users and their groups."""
    with sentences():
        for user in _file(config, data).read().values():
            typer.echo(" ".join([user.name, *(f"({group})" for group in sorted(user.groups))]))


@app.command()
def add(name: Name, group: Groups = None, config: ConfigFile = None, data: Data = None) -> None:
    """Add a user, and ask for the password."""
    from tidegate.authn.users import NAME, BadUsers, User, hash_password

    with sentences():
        unfit = next((word for word in (name, *(group or ())) if not NAME.fullmatch(word)), None)
        if unfit is not None:
            raise BadUsers(f"cannot use the name {unfit!r}: use letters, digits and _ . @ + - (not at the start)")
        if name in _file(config, data).read():
            raise BadUsers(
                f"cannot add {name}: there is such a user; `tidegate users passwd {name}` sets a new password"
            )
        user = User(name, hash_password(_ask(name)), frozenset(group or ()))
        with _file(config, data).changing() as users:
            users[name] = user
    typer.echo(f"{name} can log in now.")


@app.command()
def passwd(name: Name, config: ConfigFile = None, data: Data = None) -> None:
    """Set a new password, and ask for it. The old one does not work from then on, and sessions that it began end."""
    from tidegate.authn.users import hash_password

    with sentences():
        _must_know(_file(config, data), name)
        hashed = hash_password(_ask(name))
        with _file(config, data).changing() as users:
            users[name] = replace(users[name], hash=hashed)
    typer.echo(f"{name} has a new password. Sessions that began with the old one have ended; personal tokens go on.")


@app.command()
def remove(name: Name, config: ConfigFile = None, data: Data = None) -> None:
    """Remove a user. Their sessions end, their personal tokens are refused; their clusters go on."""
    with sentences():
        _must_know(_file(config, data), name)
        with _file(config, data).changing() as users:
            users.pop(name, None)
    typer.echo(
        f"{name} is removed: sessions in the console have ended, personal tokens are refused. Their clusters go on "
        f"(`tidegate clusters list --of all --owner {name}`). Before somebody else gets this name, revoke the tokens "
        f"too: `tidegate tokens list --user {name}`."
    )


def _file(config: Path | None, data: Path | None) -> UserFile:
    from tidegate.authn.passwords import PasswordAuthenticator
    from tidegate.server.authenticators import make_authenticator

    loaded = read_config(config, data)
    login = make_authenticator(loaded, "passwords")
    assert isinstance(login, PasswordAuthenticator)  # noqa: S101 - the entry point of this name is ours
    return login.file


def _must_know(file: UserFile, name: str) -> None:
    from tidegate.authn.users import BadUsers

    if name not in file.read():
        raise BadUsers(f"cannot change {name}: there is no such user in {file.path}")


def _ask(name: str) -> str:
    password: str = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
    return password
