"""What people see when something goes wrong."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from tidegate.api.app import Failure
from tidegate.console.render import page
from tidegate.console.session import login_link

TITLES = {
    401: "Please log in",
    403: "This is not allowed",
    404: "Nothing here",
    409: "Not now",
    413: "Too large",
    422: "This does not fit",
    429: "Too many attempts",
    500: "Something went wrong",
    502: "The backend does not answer",
    503: "The gateway is busy",
}


def show_failure(request: Request, failure: Failure) -> Response:
    """Return the page about a failure; whoever is nobody yet is led to the login; a program gets JSON."""
    headers = dict(failure.headers)
    if failure.status == 401 and "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": login_link(request)})
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": failure.message}, failure.status, headers)
    if failure.status == 401 and request.method == "GET":
        return RedirectResponse(login_link(request), 303)
    title = TITLES.get(failure.status, "This did not work")
    response = page(request, "failure.html", status=failure.status, title=title, message=failure.message)
    response.headers.update(headers)
    return response
