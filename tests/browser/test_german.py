"""The portal in German: switched by hand, nothing cut off or wider than the window."""

import pytest

from tests.browser.conftest import AXE, Visitor
from tests.browser.test_viewer import until

PAGES = [
    "/",
    "/search/",
    "/map/",
    "/cohorts/",
    "/boards/",
    "/consults/",
    "/uploads/new/",
    "/account/",
]


def overflow(page) -> list[str]:
    """Return what is wider than the window, or than its own button."""
    return page.evaluate(
        """() => [
            ...(document.documentElement.scrollWidth > innerWidth ? ["page"] : []),
            ...[...document.querySelectorAll("button, .button, nav a")]
                .filter((one) => one.offsetParent && one.scrollWidth > one.clientWidth + 1)
                .map((one) => one.textContent.trim()),
        ]"""
    )


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_german_fits_the_window(visitor: Visitor, theme: str):
    page = visitor.page
    visitor.login("northside-pathologist")
    page.click("summary:has-text('More')")
    page.click(".language button[lang=de]")
    page.wait_for_selector("h1:has-text('Fallliste')")
    found, wide = [], []
    for path in PAGES:
        visitor.goto(path)
        name = path.strip("/").replace("/", "-") or "work-list"
        visitor.look(f"german-{name}-{theme}")
        wide += [f"{path}: {each}" for each in overflow(page)]
        found += visitor.axe() if AXE.exists() else []
    visitor.goto("/")
    page.click("a.accession >> nth=0")
    visitor.look(f"german-case-{theme}")
    wide += [f"case: {each}" for each in overflow(page)]
    found += visitor.axe() if AXE.exists() else []
    page.click(".slide-card a.button >> nth=0")
    until(page, "Boolean(window.slideViewer?.isOpen())")
    page.wait_for_selector("#regions-none:visible")
    visitor.look(f"german-slide-{theme}")
    wide += [f"slide: {each}" for each in overflow(page)]
    found += visitor.axe() if AXE.exists() else []
    page.click("button:has-text('Ähnliche suchen') >> nth=0")
    page.wait_for_url(lambda url: "/searches/" in url)
    visitor.look(f"german-answers-{theme}")
    wide += [f"answers: {each}" for each in overflow(page)]
    found += visitor.axe() if AXE.exists() else []
    assert wide == []
    assert found == []
