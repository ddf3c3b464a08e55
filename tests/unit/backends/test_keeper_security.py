"""The credentials that a keeper's nannies and workers share."""

from __future__ import annotations

import time
from pathlib import Path

import dask

from tidegate.backends.local.keeper.security import SharedSecurity
from tidegate.control.credentials import mint

TLS = "distributed.comm.tls"


def configured(folder: Path) -> SharedSecurity:
    """Return credentials by a configuration that names files in this folder."""
    files = {"ca-file": "ca.pem", "worker.cert": "worker.pem", "worker.key": "worker.key"}
    with dask.config.set({f"{TLS}.{key}": str(folder / name) for key, name in files.items()}):
        return SharedSecurity()


def test_what_was_read_once_is_shared(tmp_path: Path) -> None:
    """Whoever asks gets the same contexts, also when the files are gone; what one adds to its arguments is its own."""
    made = mint("c", time.time())
    for name, text in (("ca.pem", made.ca_cert), ("worker.pem", made.worker_cert), ("worker.key", made.worker_key)):
        (tmp_path / name).write_text(text)
    security = configured(tmp_path)
    calling, listening = security.get_connection_args("worker"), security.get_listen_args("worker")
    for file in tmp_path.iterdir():
        file.unlink()

    calling["server_hostname"] = listening["server_hostname"] = "a name"
    again = security.get_connection_args("worker"), security.get_listen_args("worker")

    assert again[0]["ssl_context"] is calling["ssl_context"] is not None
    assert again[1]["ssl_context"] is listening["ssl_context"] is not calling["ssl_context"]
    assert not any("server_hostname" in arguments for arguments in again)
