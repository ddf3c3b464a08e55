"""The configuration file that ``tidegate login`` leaves, so that ``Gateway()`` needs no arguments from then on.

It lies where Dask looks and has the name that ``tidegate serve`` uses too: of two files with a section for the same
gateway one would silently win. Of a gateway that is reached in the clear on this machine it also says which OS user
listened when the token was made: nobody else is sent it later (``listener.py``). A file is not ours to change unless
its first line says that we wrote it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tidegate.client.config import Settings
from tidegate.client.errors import GatewayValueError
from tidegate.client.listener import find_listener

FILE = "tidegate.yaml"

HEADER = "# Written by `tidegate login`, and written again by the next. To keep changes, delete this line."


def login_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the configuration goes: ``$DASK_CONFIG`` if that is a folder, else ``~/.config/dask``."""
    home = Path(environ.get("HOME") or Path.home()) / ".config" / "dask"
    chosen = Path(environ.get("DASK_CONFIG") or home)
    is_folder = chosen.suffix not in (".yaml", ".yml", ".json") and not chosen.is_file()
    return (chosen if is_folder else home) / FILE


def check_is_ours(path: Path) -> None:
    """See that the file may be written.

    Raises
    ------
    GatewayValueError
        When somebody else wrote it.
    """
    try:
        first = path.read_text().partition("\n")[0]
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayValueError(f"cannot read {path}: {error}") from None
    if first != HEADER:
        raise GatewayValueError(
            f"cannot save a login in {path}: `tidegate login` did not write that file. Move it away, or have the token "
            "shown instead: tidegate login --print"
        )


def save_login(path: Path, settings: Settings, token: str) -> None:
    """Write the gateway's address and the token, for the eyes of this user alone, in one step."""
    section: dict[str, Any] = {
        "address": settings.address,
        "auth": {"type": "token", "kwargs": {"token": token}},
    }
    if settings.public_address != settings.address:
        section["public-address"] = settings.public_address
    if settings.proxy_address:
        section["proxy-address"] = settings.proxy_address
    if settings.ca_file:
        section["ca-file"] = settings.ca_file
    if settings.is_on_this_machine and settings.address.startswith("http:"):
        uid = find_listener(settings.address) if settings.listener_uid is None else settings.listener_uid
        if uid is not None:
            section["listener-uid"] = uid
    text = f"{HEADER}\n{yaml.safe_dump({'tidegate': section}, sort_keys=False)}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}.")  # mode 0600
        try:
            with open(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise GatewayValueError(f"cannot write {path}: {error.strerror or error}") from None
