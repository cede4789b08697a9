"""Regions and measurements in the viewer: drawn by mouse and by keys, named, searched, removed."""

import pytest

from tests.browser.conftest import AXE, Visitor
from tests.browser.test_viewer import box, settled, shown_at, until

TOOLS = "[data-region-tool={}]"


@pytest.fixture
def viewer(visitor: Visitor):
    visitor.login("northside-pathologist")
    visitor.page.click("a.accession >> nth=0")
    visitor.page.click(".slide-card a.button >> nth=0")
    until(visitor.page, "Boolean(window.slideViewer?.isOpen())")
    visitor.page.click("[data-power='5']")
    settled(visitor.page)
    return visitor


def drag(page, *way: tuple[int, int]) -> None:
    page.mouse.move(*way[0])
    page.mouse.down()
    for x, y in way[1:]:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def count(page) -> int:
    return page.locator("#regions-list > li").count()


def clear(page) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    while count(page):
        before = count(page)
        page.click("[data-region-remove] >> nth=0")
        until(page, "n => document.querySelectorAll('#regions-list > li').length < n", before)


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_regions_are_drawn_named_searched_and_removed(viewer, theme):
    page = viewer.page
    page.click(TOOLS.format("rectangle"))
    left, top = shown_at(page, 300, 300)
    drag(page, (300, 300), (420, 380))
    page.wait_for_selector("#regions-list li form:not([hidden])")
    page.keyboard.type("Invasive front")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-region-name]:has-text('Invasive front')")
    page.click(TOOLS.format("polygon"))
    for x, y in ((500, 300), (600, 320), (560, 420)):
        page.mouse.click(x, y)
        page.wait_for_timeout(400)  # else two clicks are a double click, which ends it
    viewer.page.focus("#viewer .openseadragon-canvas")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#regions-list > li').length === 2")
    page.click(TOOLS.format("freehand"))
    drag(page, (300, 450), (360, 430), (420, 470), (400, 540), (320, 530))
    until(page, "document.querySelectorAll('#regions-list > li').length === 3")
    page.click(TOOLS.format("line"))
    drag(page, (500, 500), (640, 560))
    until(page, "document.querySelectorAll('#regions-list > li').length === 4")
    kinds = page.locator("[data-region-measure]").all_text_contents()
    assert sum("²" in text for text in kinds) == 3, kinds
    viewer.look(f"regions-{theme}")
    found = viewer.axe() if AXE.exists() else []
    # They are kept, and stand where they were drawn however the view moves.
    page.reload()
    until(page, "document.querySelectorAll('#regions-list > li').length === 4")
    page.click("[data-region-name]:has-text('Invasive front')")
    settled(page)
    page.click("[data-act=turn-right]")
    page.click("#regions-list > li:has-text('Invasive front') [data-region-search]")
    until(page, "Boolean(document.querySelector('#box-some form').elements.width.value)")
    taken = box(page)
    assert abs(taken["x"] - left) <= 2 and abs(taken["y"] - top) <= 2
    drawn = page.evaluate(
        """() => { const path = document.querySelector('.region-path.is-rectangle');
        const svg = path.getBoundingClientRect(); return [svg.width, svg.height]; }"""
    )
    assert min(drawn) > 20
    viewer.look(f"regions-turned-{theme}")
    clear(page)
    assert found == []


def test_by_keys_alone_the_view_is_kept_named_and_removed(viewer):
    page = viewer.page
    page.focus("#viewer .openseadragon-canvas")
    page.keyboard.press("v")
    page.focus("#box-keep")
    page.keyboard.press("Enter")
    page.wait_for_selector("#regions-list li form:not([hidden])")
    page.keyboard.type("By keys")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-region-name]:has-text('By keys')")
    assert page.evaluate("document.activeElement.textContent") == "By keys"
    page.on("dialog", lambda dialog: dialog.accept())
    for _ in range(3):  # past "Use as box" and "Name…"
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.regionRemove") == ""
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#regions-list > li').length === 0")


def test_by_finger_a_line_is_measured_and_two_still_zoom(viewer, chromium):
    """Touch comes as pointer events: one finger draws while a tool is in the hand."""
    page = viewer.page
    page.click(TOOLS.format("line"))
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[int, int]) -> None:
        told = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": told})

    send("touchStart", (300, 300))
    for step in range(1, 6):
        send("touchMove", (300 + 20 * step, 300))
    send("touchEnd")
    until(page, "document.querySelectorAll('#regions-list > li').length === 1")
    before = page.evaluate("slideViewer.viewport.getZoom()")
    send("touchStart", (400, 300), (500, 300))
    for step in range(1, 6):
        send("touchMove", (400 - 20 * step, 300), (500 + 20 * step, 300))
    send("touchEnd")
    until(page, "before => slideViewer.viewport.getZoom() > before * 1.5", before)
    clear(page)
