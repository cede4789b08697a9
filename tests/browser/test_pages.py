"""Each page: no script error, nothing from other hosts, axe finds nothing, keyboard works."""

import pytest

from tests.browser.conftest import AXE, Visitor

PAGES = {
    "work-list": "/",
    "upload-new": "/uploads/new/",
    "uploads": "/uploads/",
    "unmatched": "/unmatched/",
    "search": "/search/",
    "searches": "/searches/",
    "saved-searches": "/searches/saved/",
    "cohorts": "/cohorts/",
    "cohort-new": "/cohorts/new/",
    "exports": "/exports/",
    "indexing": "/indexing/",
}


def first_link(visitor: Visitor, prefix: str) -> str:
    """Return the first link of the page that goes there."""
    return str(visitor.page.locator(f"main a[href^='{prefix}']").first.get_attribute("href"))


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_no_page_breaks_a_rule_of_accessibility(visitor: Visitor, theme: str):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci")
    visitor.goto("/login/")
    visitor.look(f"login-{theme}")
    found = visitor.axe()
    visitor.login("northside-pathologist")
    for name, path in PAGES.items():
        visitor.goto(path)
        visitor.page.wait_for_load_state("networkidle")
        visitor.look(f"{name}-{theme}")
        found += visitor.axe()
    visitor.goto("/")
    visitor.page.keyboard.press("?")
    visitor.look(f"keys-{theme}")
    found += visitor.axe()
    visitor.page.keyboard.press("Escape")
    visitor.goto(first_link(visitor, "/cases/"))
    visitor.page.wait_for_selector(".similar-cases")
    visitor.look(f"case-{theme}")
    found += visitor.axe()
    slide = first_link(visitor, "/slides/")
    visitor.goto(slide)
    visitor.page.wait_for_timeout(1500)
    visitor.look(f"viewer-{theme}")
    found += visitor.axe()
    visitor.page.click("button:has-text('Find similar')")
    visitor.page.wait_for_url("**/searches/*/")
    visitor.page.wait_for_load_state("networkidle")
    visitor.page.wait_for_selector("[data-facet]")
    visitor.look(f"results-{theme}")
    found += visitor.axe()
    visitor.page.click("a:has-text('Table')")
    visitor.look(f"results-table-{theme}")
    found += visitor.axe()
    visitor.page.click("a:has-text('Cards')")
    visitor.goto("/uploads/")
    visitor.goto(first_link(visitor, "/uploads/"))
    visitor.look(f"upload-{theme}")
    found += visitor.axe()
    visitor.page.click("text=Sign out")
    visitor.login("northside-admin")
    visitor.goto("/audit/?kind=person&text=northside-pathologist")
    visitor.look(f"access-log-{theme}")
    found += visitor.axe()
    assert found == []


def test_the_main_job_needs_no_mouse(visitor: Visitor):
    page = visitor.page

    def press_until(selector: str, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches({selector!r})"):
                return
        raise AssertionError(f"Tab never reached {selector} on {page.url}")

    visitor.goto("/login/")
    page.keyboard.type("northside-pathologist")
    page.keyboard.press("Tab")
    page.keyboard.type(visitor.password)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login/" not in url)
    press_until("tbody a[href^='/cases/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases/*/")
    press_until("form[action$='/similar/'] button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/searches/*/")
    press_until("article.hit a")
    assert page.locator("article.hit").count() > 0


@pytest.mark.parametrize("path", [*PAGES.values()])
def test_a_page_fits_a_small_screen_without_sideways_scrolling(visitor: Visitor, path: str):
    visitor.login("northside-pathologist")
    visitor.goto(path)
    wider = visitor.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wider <= 0


def test_the_main_job_takes_few_keys(visitor: Visitor):
    """Open a case, find similar, judge, select an answer, and put it into a cohort."""
    page = visitor.page
    visitor.login("northside-pathologist")
    keys = 0

    def press(*names: str) -> None:
        nonlocal keys
        for name in names:
            page.keyboard.press(name)
            keys += 1

    press("j", "Enter")
    page.wait_for_url("**/cases/*/")
    press("f")
    page.wait_for_url("**/searches/*/")
    press("j", "r")
    page.wait_for_selector("text=Ordered by your marks: 1 relevant")
    assert page.evaluate("document.activeElement.closest('[data-row]') !== null")
    press("x", "a")
    visitor.look("main-job-cohort")
    press("Enter")
    page.wait_for_selector(".messages :text('to “')")
    assert keys <= 12


def test_an_image_and_a_region_are_asked_by_the_bar(visitor: Visitor, tmp_path):
    page = visitor.page
    visitor.login("northside-pathologist")
    visitor.goto(first_link(visitor, "/slides/"))
    page.wait_for_selector("#power-now:not(:empty)")
    page.click("button:has-text('Box = view')")
    bar = page.locator("form[data-ask]")
    assert bar.locator("[data-ask-region-on]").is_checked()
    assert bar.locator("[data-ask-slide]").is_checked()
    # An image takes the place of the slide; left out again, the region can be taken back.
    shot = tmp_path / "field.png"
    page.screenshot(path=shot)
    bar.locator("[data-ask-image]").set_input_files(shot)
    assert not bar.locator("[data-ask-slide]").is_checked()
    assert bar.locator("[name=image_mpp]").is_visible()
    bar.locator("[data-ask-drop]").click()
    assert not bar.locator("[name=image_mpp]").is_visible()
    bar.locator("[data-ask-region-on]").check()
    assert bar.locator("[data-ask-slide]").is_checked()
    bar.locator("input[type=search]").fill("carcinoma")
    bar.locator("button:has-text('Search')").click()
    page.wait_for_url("**/searches/*/")
    assert page.locator("article.hit").count() > 0
    assert "A region of slide" in str(page.text_content(".asked"))
