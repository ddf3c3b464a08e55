"""The pages point at what is there, and their configurations are ones that a gateway starts with."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tidegate.config.load import load
from tidegate.model.audit import Deed, Outcome
from tidegate.server.authenticators import make_authenticator
from tidegate.server.backend import check_backend
from tidegate.server.preflight import check_address

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])

LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
CONFIGURATION = re.compile(r"^```yaml\n(# tidegate\.yaml\n.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    """Return the page's path within the project."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the project."""
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]

    assert missing == []


def test_every_page_can_be_found_from_the_index() -> None:
    """A page that nobody links to is not read; decisions and what GitHub shows by itself need no link."""
    linked = {(page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text())}
    pages = [page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "decisions"]

    assert [name_of(page) for page in pages if page not in linked] == []


THREATS = ROOT / "docs" / "explanation" / "security.md"

GUARD = re.compile(r"`([\w/]+\.py)::(\w+)`")


def functions_of(file: Path) -> set[str]:
    """Return the names of the functions of a file, without running it."""
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_threat_has_a_test_that_is_there() -> None:
    """A row of the threat model names at least one, and each can be found under its name."""
    rows = [line for line in THREATS.read_text().split("## Threats", 1)[1].splitlines() if line.count("|") == 4]
    threats = [row for row in rows if not row.startswith(("| threat |", "| --- |"))]
    missing = []
    for row in threats:
        named = GUARD.findall(row.split("|")[3])
        missing += [row] if not named else []
        for path, name in named:
            file = ROOT / "tests" / path
            if not file.exists() or name not in functions_of(file):
                missing.append(f"{path}::{name}")

    assert missing == []
    assert len(threats) > 30


CONFIGURATIONS = [(page, text) for page in PAGES for text in CONFIGURATION.findall(page.read_text())]


@pytest.mark.parametrize(("page", "text"), CONFIGURATIONS, ids=lambda value: getattr(value, "stem", ""))
def test_configurations_are_accepted(page: Path, text: str, tmp_path: Path) -> None:
    """Every setting exists, its value is allowed, and nothing in it keeps the gateway from starting."""
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).touch()
    file = tmp_path / "tidegate.yaml"
    file.write_text(text.replace("/etc/tidegate/", f"{tmp_path}/"))

    loaded = load(file)
    check_backend(loaded)
    check_address(loaded.settings)
    for login in loaded.settings.authentication.logins:
        if login != "kerberos" or find_spec("gssapi"):
            make_authenticator(loaded, login)


def test_the_page_of_the_audit_log_has_every_word_of_it() -> None:
    """Whoever reads a word in the log can look it up."""
    page = (ROOT / "docs/howto/audit.md").read_text()

    assert [word.value for word in (*Deed, *Outcome) if f"`{word.value}`" not in page] == []
