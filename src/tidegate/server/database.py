"""The database that the configuration names, with the password that does not stand in it."""

from __future__ import annotations

import os

from sqlalchemy import URL

from tidegate.config.load import BadConfig, Loaded
from tidegate.config.schema import Settings
from tidegate.store.database import BUSY_TIMEOUT
from tidegate.store.engine import parse_url
from tidegate.store.schema import describe_database

PASSWORD_VARIABLE = "TIDEGATE_DATABASE_PASSWORD"  # noqa: S105 - the name of the variable


def database_url(settings: Settings) -> URL | None:
    """Return where the database is; None for the file in the data folder. When it is printed, it hides the password.

    Raises
    ------
    BadConfig
        When the password cannot be read.
    """
    chosen = settings.database
    if chosen.url is None:
        return None
    url = parse_url(chosen.url)
    if chosen.password_file is None:
        password = os.environ.get(PASSWORD_VARIABLE, "")
    else:
        try:
            password = chosen.password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig([f"cannot read database.password_file {chosen.password_file}: {error}"]) from None
        if not password:
            raise BadConfig([f"cannot use database.password_file {chosen.password_file}: it is empty"])
    return url.set(password=password) if password else url


def check_database(loaded: Loaded) -> str | None:
    """Ask the database that is named whether it can be used; return what it is, in words.

    Raises
    ------
    TidegateError
        When it cannot be.
    """
    url = database_url(loaded.settings)
    return None if url is None else describe_database(url, busy_timeout=BUSY_TIMEOUT)
