"""Where the gateway's records are kept, where that is not a file in its data folder.

The configuration file holds no password, and what is refused here is never repeated: whoever wrote one into the URL
would else find it in a terminal, and from there in a log.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from pydantic import model_validator

from tidegate.settings import FilePath, Section

POSTGRESQL = re.compile(r"postgres(ql)?://([^:/@?#\s]+@)?[^/@?#\s]*/[^/@?#\s]+(\?[^@#\s]*)?")
"""A URL in which no reader can find a password: one ``@`` at the most, and no colon before it."""

SECRET_PARAMETERS = frozenset({"password", "sslpassword"})
"""What PostgreSQL's own library would read a secret from behind the question mark."""


class DatabaseSettings(Section):
    """Where the gateway keeps its records. One gateway works on a database."""

    url: str | None = None
    """A PostgreSQL: ``postgresql://USER@HOST/NAME``, without a password. What stands behind a ``?``
    (``sslmode=verify-full``, ``host=/run/postgresql`` for a socket) is for PostgreSQL's library. By default the records
    are in a SQLite file in the folder ``data``, where keys, logs and the clusters' files are in any case."""
    password_file: FilePath | None = None
    """File with the password of USER. By default what is in the environment variable ``TIDEGATE_DATABASE_PASSWORD``;
    without either the server must know the gateway by something else: its account, a certificate, a ``.pgpass``."""

    @model_validator(mode="after")
    def _fits(self) -> DatabaseSettings:
        if self.url is None:
            if self.password_file is not None:
                raise ValueError("password_file is given, and no url that it could be for")
            return self
        if not POSTGRESQL.fullmatch(self.url) or SECRET_PARAMETERS & _parameters(self.url):
            raise ValueError(
                "write url as postgresql://USER@HOST/NAME, with %40 for an @ in a name, and without a password: "
                "that is for password_file"
            )
        return self


def _parameters(url: str) -> set[str]:
    return {name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
