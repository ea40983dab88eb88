"""The built site, once a test run, and a browser to look at it with."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.book.site import Site

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def built_site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Site:
    """Return the site that `MMWA_SITE` names, or build one from the real pages and chapters at smoke size."""
    if named := os.environ.get("MMWA_SITE"):
        return Site(Path(named).resolve())
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent  # what the parallel workers have in common
    build = shared / "site"
    with FileLock(shared / "site.lock"):
        if not (build / "html" / "index.html").is_file():
            command = [sys.executable, "-m", "workflow.book", "--cores", "2", "--build", str(build)]
            done = subprocess.run([*command, "--profile", "smoke"], cwd=ROOT, capture_output=True, text=True)
            log = build / "logs" / "site.log"
            said = log.read_text(encoding="utf-8")[-4000:] if log.is_file() else done.stdout + done.stderr
            assert done.returncode == 0, f"the site does not build without warnings:\n{said}"
    return Site(build / "html")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the test's output clear of one line per request."""


@pytest.fixture(scope="session")
def address(built_site: Site) -> Iterator[str]:
    """Serve the site locally; the search page needs a server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(built_site.root)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def find_chromium() -> str | None:
    """Return the browser to drive, or None."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Drive Chromium; the tests that need it skip loudly where there is none."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("BROWSER CHECKS SKIPPED: no Chromium on this machine; install it (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield chromium
        chromium.close()


class Look:
    """A page in the browser that records what went wrong while it was shown."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.problems: list[str] = []
        page.on("console", lambda said: self._note(f"console: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: self._note(f"script error: {error}"))
        page.on(
            "response", lambda answer: self._note(f"{answer.status}: {answer.url}") if answer.status > 399 else None
        )

    def _note(self, problem: str) -> None:
        self.problems.append(f"{self.page.url.removeprefix(self.address)}: {problem}")

    def refuse_remote(self, context: BrowserContext) -> None:
        """Cut the network off: a request to any other host is refused and recorded."""
        context.route(lambda url: not url.startswith((self.address, "data:", "blob:")), self._refuse)

    def _refuse(self, route: object) -> None:
        self._note(f"asks the network for {route.request.url}")  # type: ignore[attr-defined]
        route.abort()  # type: ignore[attr-defined]

    def at(self, name: str) -> Page:
        """Show a page of the site and wait until its mathematics is typeset."""
        self.page.goto(self.address + name)
        self.page.wait_for_load_state("load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        return self.page


@pytest.fixture
def look(browser: Browser, address: str) -> Iterator[Callable[..., Look]]:
    """Return a function that opens a window of a given width in light or dark mode, with the network cut off."""
    opened: list[BrowserContext] = []

    def open_window(*, width: int = 1280, mode: str = "light") -> Look:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=mode)  # type: ignore[arg-type]
        opened.append(context)
        window = Look(context.new_page(), address)
        window.refuse_remote(context)
        return window

    yield open_window
    for context in opened:
        context.close()
