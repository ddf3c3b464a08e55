"""Write the generated pages of ``docs/reference`` from the code, or check that they are up to date.

python docs/generate.py            write them
python docs/generate.py --check    say which are stale, and fail if any is
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from pydantic import BaseModel

from tidegate.api.app import create_app
from tidegate.config.explain import reference
from tidegate.model import errors, reasons
from tidegate.server import authenticators, backend

FOLDER = Path(__file__).parent / "reference"


def settings_page() -> str:
    """Return the page of all settings, those of this distribution's backends and authenticators among them."""
    return reference(_adapters(backend.GROUP), _adapters(authenticators.GROUP))


def _adapters(group: str) -> dict[str, type[BaseModel]]:
    kinds = {point.name: point.load() for point in entry_points(group=group) if point.value.startswith("tidegate.")}
    return {name: kind.Settings for name, kind in sorted(kinds.items()) if hasattr(kind, "Settings")}


def errors_page() -> str:
    """Return the page of everything that can go wrong on purpose."""
    lines = [
        "# Errors and reasons",
        "",
        "Made from `src/tidegate/model/errors.py` and `model/reasons.py` by `docs/generate.py`; change it there.",
        "",
        "## What an answer of the API may say",
        "",
        "`code` and status are promises; messages are sentences for people and may be reworded.",
        "",
        "| code | status | meaning |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{e.code}` | {e.status} | {first_sentence(e)} |" for e in subclasses(errors.TidegateError)]
    lines += [
        "",
        "## Why a cluster or a worker ended",
        "",
        "The `code` of a reason; `{...}` is filled in.",
        "",
        "| code | sentence |",
        "| --- | --- |",
    ]
    lines += [f"| `{code}` | {sentence} |" for code, sentence in reasons.SENTENCES.items()]
    return "\n".join(lines) + "\n"


def subclasses(kind: type[errors.TidegateError]) -> Iterator[type[errors.TidegateError]]:
    """Yield the errors of ``model/errors.py`` below ``kind``, each before its own."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from subclasses(child)


def first_sentence(kind: type[errors.TidegateError]) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def openapi() -> str:
    """Return the OpenAPI description of the JSON API."""
    return json.dumps(create_app(services=None).openapi(), indent=1, ensure_ascii=False) + "\n"


PAGES = {"settings.md": settings_page, "errors.md": errors_page, "openapi.json": openapi}


def main() -> None:
    """Write the pages, or check them."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        sys.exit(f"cannot pass: {', '.join(stale)} in docs/reference: out of date. Run: make docs")
    print(f"docs/reference: {'wrote ' + ', '.join(stale) if stale else 'up to date'}")


if __name__ == "__main__":
    main()
