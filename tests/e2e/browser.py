"""People and their browsers: Debian's Chromium, driven by Playwright, each visitor with cookies of their own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Response, WebSocket, expect, sync_playwright

CHROMIUM = shutil.which("chromium")

FLAGS = [
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE = 20_000
"""Milliseconds that an expectation may take to come true, on a machine that other tests keep busy."""

PHONE = {"width": 390, "height": 844}

expect.set_options(timeout=PATIENCE)


@dataclass
class Visitor:
    """Somebody with a browser.

    Parameters
    ----------
    context : BrowserContext
        Their cookies and tabs.
    page : Page
        Their first tab.
    complaints : list of str
        What the browser complained about in any tab: errors of scripts, and what the content security policy forbade.
    refusals : list of str
        Which requests were answered with an error; browsers report them like complaints.
    """

    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def log_in(self, address: str, token: str) -> None:
        """Log in on the console by pasting the token, and stay there."""
        self.page.goto(f"{address}/login")
        self.paste(token)
        expect(self.page.get_by_role("heading", name="My clusters")).to_be_visible()

    def paste(self, token: str) -> None:
        """Give the login page a token."""
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Log in").click()

    def cookies(self, url: str) -> str:
        """Return the cookies that their browser has for an address, as it sends them."""
        return "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in self.context.cookies(url))

    def listen(self, message: ConsoleMessage) -> None:
        """Note what the browser's console says."""
        if message.type != "error":
            return
        refused = message.text.startswith("Failed to load resource: the server responded with a status")
        (self.refusals if refused else self.complaints).append(f"{message.text} ({message.location.get('url')})")

    def fits(self) -> bool:
        """Whether the page needs no scrolling sideways."""
        fits: bool = self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        return fits


class Chromium:
    """A running Chromium.

    Parameters
    ----------
    hosts : sequence of str
        Rules for host names, such as ``MAP example.test 127.0.0.1:8000``: in place of a name server.
    """

    def __init__(self, hosts: Sequence[str] = ()) -> None:
        self._flags = [*FLAGS, f"--host-resolver-rules={', '.join(hosts)}"] if hosts else FLAGS

    def __enter__(self) -> Chromium:
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=self._flags)
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._browser.close()
        self._playwright.stop()

    def visitor(self) -> Visitor:
        """Let another person open their browser. Certificates are not judged here: the clients' tests do."""
        context = self._browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        visitor = Visitor(context, context.new_page())
        context.on("console", visitor.listen)
        context.on("weberror", lambda error: visitor.complaints.append(str(error.error)))
        return visitor


class Dashboard:
    """A page of Dask's, as one sees it.

    Parameters
    ----------
    page : Page
        The tab that it is in, from before it is loaded.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sockets: list[WebSocket] = []
        self.messages = 0
        page.on("websocket", self._note)

    def _note(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        socket.on("framereceived", lambda _: self._count())

    def _count(self) -> None:
        self.messages += 1

    def show(self, url: str) -> Response | None:
        """Go there and wait until it is drawn."""
        self.sockets, self.messages = [], 0
        answer = self.page.goto(url)
        self.wait_until_drawn()
        return answer

    def wait_until_drawn(self) -> None:
        """Wait until Bokeh has its document and nothing left to draw."""
        self.page.wait_for_function("window.Bokeh?.documents.some(d => d.roots().length && d.is_idle)")

    def tasks(self) -> int:
        """Return how many tasks the task stream has drawn."""
        count: int = self.page.evaluate(f"({_TASKS})()")
        return count

    def wait_for_tasks(self, more_than: int) -> int:
        """Wait until it has drawn more than so many, and return how many."""
        self.page.wait_for_function(f"() => ({_TASKS})() > {more_than}")
        return self.tasks()

    def coloured(self) -> int:
        """Return how many pixels of all that is drawn have a colour: an empty plot is black, grey and white."""
        counts: list[int] = self.page.locator("canvas").evaluate_all(_COLOURED)
        return sum(counts)


_TASKS = """() => Bokeh.documents[0].get_model_by_name("task_stream").renderers[0].data_source.get_length()"""

_COLOURED = """canvases => canvases.map(canvas => {
  if (!canvas.width || !canvas.height) return 0;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
    if (Math.max(r, g, b) - Math.min(r, g, b) > 60) count++;
  }
  return count;
})"""
