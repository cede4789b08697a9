"""Debian's Chromium on a whole live site with a small demo archive."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.live_site import LiveSite, free_port, wait_until

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
VIEWPORT = {"width": 1366, "height": 768}
DEMO_SLIDES = 10


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/browser/" in str(item.path):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """Return a running site whose demo slides are all indexed."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    live = LiveSite(tmp_path_factory.mktemp("site"), free_port())
    try:
        live.start()
        live.manage("load_demo", "--slides", str(DEMO_SLIDES), "--only-synthetic")
        wait_until(
            lambda: live.ask("SlideIndex.objects.filter(state='indexed').count()") >= DEMO_SLIDES,
            seconds=600,
            what="the demo slides to be indexed",
            every=5,  # asking starts a process, which takes time from the indexing
        )
        yield live
    finally:
        live.end()


@pytest.fixture(scope="package")
def logins(site: LiveSite) -> dict:
    """Return the demo logins: `password` and `users`."""
    return json.loads((site.data_dir / "demo_logins.json").read_text())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Return the browser; closed with the module, because its event loop shuts Django's ORM out."""
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                # WebGL by software, which the map of the archive needs.
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


class Visitor:
    """A person at the browser, who notices every script error and every foreign request."""

    def __init__(self, page: Page, site: LiveSite, password: str) -> None:
        self.page, self.site, self.password = page, site, password
        self.troubles: list[str] = []
        page.on("pageerror", lambda error: self.troubles.append(f"script: {error}"))
        page.on("console", self._listen)
        page.on("request", self._watch)

    def _listen(self, message) -> None:
        text = message.text
        if message.type == "error" and "the server responded with a status of 4" not in text:
            self.troubles.append(f"console: {text}")

    def _watch(self, request) -> None:
        if not request.url.startswith((self.site.url, "data:", "blob:")):
            self.troubles.append(f"request to another host: {request.url}")

    def login(self, username: str) -> None:
        """Sign in through the form."""
        self.page.goto(f"{self.site.url}/login/")
        self.page.fill("input[name=username]", username)
        self.page.fill("input[name=password]", self.password)
        self.page.click("main form button")
        self.page.wait_for_url(lambda url: "/login/" not in url)

    def goto(self, path: str) -> None:
        """Open a page of the site."""
        self.page.goto(self.site.url + path)

    def look(self, name: str) -> None:
        """Keep a picture when SCREENSHOTS names a folder; see `make screenshots`."""
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{folder}/{name}.png")

    def axe(self) -> list[str]:
        """Return axe-core's violations of the page as it stands (WCAG 2.2 A and AA)."""
        # Evaluated by the debugger, so the page's own CSP stays in force.
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa']})"
        )
        return [
            f"{self.page.url} {violation['id']}: {node['html'][:160]}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]


@pytest.fixture(params=["light"])
def theme(request: pytest.FixtureRequest) -> str:
    """Return the colour scheme of the browser."""
    return request.param


@pytest.fixture
def visitor(chromium: Browser, site: LiveSite, logins: dict, theme: str) -> Iterator[Visitor]:
    """Return a visitor in a fresh browser profile; fails the test on any trouble seen."""
    context: BrowserContext = chromium.new_context(viewport=VIEWPORT, color_scheme=theme)
    context.set_default_timeout(30_000)
    someone = Visitor(context.new_page(), site, logins["password"])
    yield someone
    context.close()
    assert someone.troubles == []
