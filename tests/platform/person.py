"""Somebody who uses the platform as a browser does: the Hub's form, pages with cookies, a kernel by its WebSocket."""

from __future__ import annotations

import json
import time
import uuid
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

SPAWN_SECONDS = 60.0
CELL_SECONDS = 90.0


class Person:
    """A user of the platform.

    Parameters
    ----------
    hub : str
        The Hub's address.
    name, password : str
        What they log in with.
    """

    def __init__(self, hub: str, name: str, password: str) -> None:
        self.hub = hub
        self.name = name
        self._password = password
        self.server = f"{hub}/user/{name}"

    async def __aenter__(self) -> Person:
        # The cookies of an address that is a number are "unsafe" to aiohttp.
        self.http = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=aiohttp.ClientTimeout(total=SPAWN_SECONDS)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.close()

    async def log_in(self) -> int:
        """Fill in the form; return the status of the page that follows."""
        async with self.http.get(f"{self.hub}/hub/login") as page:
            assert page.status == 200
        xsrf = self._xsrf(f"{self.hub}/hub/")["X-XSRFToken"]
        form = {"username": self.name, "password": self._password, "_xsrf": xsrf}
        async with self.http.post(f"{self.hub}/hub/login?next=/hub/home", data=form) as page:
            return page.status

    async def start_server(self) -> None:
        """Open the page that starts their JupyterLab, follow its progress as that does, and go on to JupyterLab."""
        async with self.http.get(f"{self.hub}/hub/spawn") as page:
            assert page.status == 200, await page.text()
        progress = f"{self.hub}/hub/api/users/{self.name}/server/progress"
        async with self.http.get(progress, headers=self._xsrf(f"{self.hub}/hub/")) as events:
            assert events.status == 200, await events.text()
            told = (await events.text()).splitlines()
        assert any('"ready": true' in line for line in told), told
        async with self.http.get(f"{self.server}/lab") as page:
            assert page.status == 200, await page.text()

    async def ask_server(self, method: str, path: str, **body: Any) -> Any:
        """Ask the API of their Jupyter server."""
        headers = self._xsrf(f"{self.server}/")
        async with self.http.request(method, f"{self.server}{path}", headers=headers, json=body or None) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def start_kernel(self) -> str:
        """Start a kernel, as opening a notebook does; return its id."""
        return str((await self.ask_server("POST", "/api/kernels", name="python3"))["id"])

    async def run_cell(self, kernel: str, code: str) -> str:
        """Run a cell; return what it printed.

        Raises
        ------
        AssertionError
            The cell failed; with its traceback.
        """
        session, number = uuid.uuid4().hex, uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "session": session, "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        printed: list[str] = []
        deadline = time.monotonic() + CELL_SECONDS
        async with self.http.ws_connect(f"{self.server}/api/kernels/{kernel}/channels?session_id={session}") as socket:
            await socket.send_str(json.dumps(request))
            while True:
                message = json.loads(await socket.receive_str(timeout=deadline - time.monotonic()))
                if message["parent_header"].get("msg_id") != number:
                    continue
                kind, content = message["msg_type"], message["content"]
                if kind == "stream":
                    printed.append(content["text"])
                elif kind == "error":
                    raise AssertionError("\n".join(content["traceback"]) + "".join(printed))
                elif kind == "status" and content["execution_state"] == "idle":
                    return "".join(printed)

    async def open_console(self) -> None:
        """Follow the console's link to the Hub, which knows them already and leads back."""
        async with self.http.get(f"{self.hub}/services/dask-gateway/login/jupyterhub") as page:
            assert page.status == 200, await page.text()
            assert "My clusters" in await page.text()

    def _xsrf(self, url: str) -> dict[str, str]:
        """Return the header by which pages show that they are not another site's."""
        found = self.http.cookie_jar.filter_cookies(URL(url)).get("_xsrf")
        assert found is not None, f"no cookie for {url}"
        return {"X-XSRFToken": found.value}
