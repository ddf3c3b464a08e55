"""From a template to an answer, with the headers that keep a page from doing what it was not written to do.

Nothing of a user's reaches a page unescaped, and if something did, the content security policy leaves it nothing to
run: no inline scripts or styles, nothing from elsewhere, in nobody's frame.
"""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from tidegate.api.access import read_session
from tidegate.api.address import Address, address_of
from tidegate.api.services import VERSION, services_of
from tidegate.console.assets import asset_path

HTMX_CONFIG = json.dumps({"includeIndicatorStyles": False, "allowEval": False, "selfRequestsOnly": True})
"""htmx without what the policy forbids, and without requests to elsewhere."""

_templates = Environment(
    loader=PackageLoader("tidegate.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_templates.globals["asset"] = asset_path


def render(template: str, **values: Any) -> Markup:
    """Return the template filled with ``values``."""
    return Markup(_templates.get_template(template).render(**values))  # noqa: S704 - the template has escaped it


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a whole page."""
    address = address_of(request)
    # Whoever is asked to log in is nobody, also beside a session that counted for nothing.
    known = None if status == 401 else read_session(request)
    html = render(
        template,
        base=address.prefix,
        principal=getattr(request.state, "principal", None) or known,
        htmx_config=HTMX_CONFIG,
        version=VERSION,
        **values,
    )
    headers = {
        "Content-Security-Policy": content_security_policy(address, services_of(request).dashboard_host),
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    return HTMLResponse(html, status, headers)


def content_security_policy(address: Address, dashboard_host: str | None) -> str:
    """Return the policy of our pages.

    ``form-action`` must allow the dashboards' hosts, since logging in on the way to one is a form whose answer leads
    there, and Chromium holds every redirect against it.
    """
    dashboards = f" {address.scheme}://{dashboard_host.replace('{name}', '*')}{address.port}" if dashboard_host else ""
    own = "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
    return f"default-src 'none'; {own}; form-action 'self'{dashboards}; base-uri 'none'; frame-ancestors 'none'"
