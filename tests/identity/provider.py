"""A real OpenID provider (npm's ``oidc-provider``, certified), and the people who log in on its pages.

What it knows stands in ``provider.mjs``: alice and bob, the clients that a gateway can be, and those of programs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urljoin

import httpx

from tests.identity.hub import ENVIRONMENT
from tests.identity.processes import Service
from tests.support import ANY_TLS, eventually_sync
from tidegate.authn.oidc import DEVICE_GRANT, OidcSettings

PROGRAM = Path(__file__).with_name("provider.mjs")
SECRET = "s3cret%2B:with+signs"
AUDIENCE = "https://dask.example.org"
START_SECONDS = 60.0


class Provider:
    """The provider.

    Parameters
    ----------
    folder : Path
        For what it writes.
    returns : list of str
        Where it may send browsers back to.
    """

    def __init__(self, folder: Path, returns: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.secret_file = folder / "client-secret"
        self.secret_file.write_text(SECRET)
        node = shutil.which("node")
        if node is None or not (ENVIRONMENT / "node_modules" / "oidc-provider").exists():
            raise RuntimeError("there is no OpenID provider: run make test-identity")
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
        self._service = Service([node, str(PROGRAM), str(ENVIRONMENT), *returns], folder, environ)

    @property
    def issuer(self) -> str:
        """Its address."""
        return (self.folder / "issuer").read_text()

    def wait(self) -> None:
        """Wait until it says what it is."""
        eventually_sync(lambda: self._answers() or not self._service.runs, START_SECONDS, "the provider answers")
        assert self._service.runs, self._service.log.read_text()

    def stop(self) -> None:
        """End it."""
        self._service.stop()

    def _answers(self) -> bool:
        try:
            description = f"{self.issuer}/.well-known/openid-configuration"
            return httpx.get(description, timeout=5, verify=ANY_TLS).status_code == 200
        except (httpx.HTTPError, FileNotFoundError):
            return False

    # -- gateways and programs -----------------------------------------------------------------------------------------

    def settings(self, client: str = "gateway", **more: Any) -> OidcSettings:
        """Return the settings of a gateway that is this client."""
        secret = {} if client == "public-gateway" else {"client_secret_file": self.secret_file}
        given = {"issuer": self.issuer, "client_id": client, "scopes": ["openid", "profile", "groups"], **secret}
        return OidcSettings.model_validate({**given, "audience": AUDIENCE, **more})

    def ask(self, path: str, client: str, **form: str) -> dict[str, Any]:
        """Ask as a client: a confidential one says its secret."""
        as_client: dict[str, Any] = {"data": {**form, "client_id": client}}
        if client == "pipeline":
            as_client = {"data": form, "auth": (client, quote_plus(SECRET))}
        answer: dict[str, Any] = httpx.post(f"{self.issuer}{path}", **as_client, timeout=20).json()
        return answer

    def program_token(self, audience: str = AUDIENCE) -> str:
        """Return an access token of the program "pipeline"."""
        form = {"grant_type": "client_credentials", "scope": "dask", "resource": audience}
        token: str = self.ask("/token", "pipeline", **form)["access_token"]
        return token

    def tokens_of(self, person: Person, audience: str | None = AUDIENCE) -> dict[str, Any]:
        """Let a person log in on a laptop of theirs; return the tokens that they have there."""
        where = {"resource": audience} if audience else {}
        scope = "openid profile groups dask" if audience else "openid profile groups"
        begun = self.ask("/device/auth", "laptop", scope=scope, **where)
        assert "logged in" in person.visit(begun["verification_uri_complete"]).text
        return self.ask("/token", "laptop", grant_type=DEVICE_GRANT, device_code=begun["device_code"], **where)


@contextmanager
def running_provider(folder: Path, returns: list[str]) -> Iterator[Provider]:
    """Start a provider."""
    provider = Provider(folder, returns)
    try:
        provider.wait()
        yield provider
    finally:
        provider.stop()


# -- people ------------------------------------------------------------------------------------------------------------


@dataclass
class Page:
    """What a browser shows.

    Parameters
    ----------
    url : str
        Its address.
    text : str
        Its source.
    fields : dict
        The fields of its form, with what stands in them. Empty: there is no form.
    """

    url: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)
    action: str = ""


class Person:
    """Somebody with a browser of their own, who answers the provider's pages.

    Parameters
    ----------
    provider : Provider
    name, password : str
        How they log in.
    agrees : bool
        What they say when they are asked.
    """

    def __init__(self, provider: Provider, name: str = "alice", password: str = "", *, agrees: bool = True) -> None:
        self._issuer = provider.issuer
        self._name, self._password = name, password or f"password-of-{name}"
        self._agrees = agrees
        self._cookies = httpx.Cookies()

    def visit(self, url: str) -> Page:
        """Go there and answer what is asked; return the last page, or the one elsewhere to which one is sent."""
        with httpx.Client(cookies=self._cookies, timeout=20, verify=ANY_TLS) as browser:
            page = self._load(browser, "GET", url)
            while page.url.startswith(self._issuer) and (answer := self._answer(page)) is not None:
                page = self._load(browser, "POST", page.action, {**page.fields, **answer})
            self._cookies = browser.cookies
        return page

    def _answer(self, page: Page) -> dict[str, str] | None:
        """Return what they fill in or press; None where nothing is asked, or a code that nobody has told them."""
        if "password" in page.fields:
            assert "Wrong" not in page.text, "the password is wrong"
            return {"login": self._name, "password": self._password}
        if "confirm" in page.fields:
            return {} if self._agrees else {"abort": "yes"}
        if "answer" in page.fields:
            return {"answer": "allow" if self._agrees else "deny"}
        return {} if page.fields.get("user_code") else None

    def _load(self, browser: httpx.Client, method: str, url: str, form: dict[str, str] | None = None) -> Page:
        answer = browser.request(method, url, data=form)
        while answer.is_redirect:
            url = urljoin(url, answer.headers["location"])
            if not url.startswith(self._issuer):
                return Page(url, "")
            answer = browser.get(url)
        reader = _FormReader()
        reader.feed(answer.text)
        return Page(url, answer.text, reader.fields, urljoin(url, reader.action))


class _FormReader(HTMLParser):
    """Reads the form of a page; buttons have no value until they are pressed."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "")
        elif tag == "input" or (tag == "button" and given.get("name") == "answer"):
            self.fields[given["name"]] = given.get("value", "")
