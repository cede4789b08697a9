"""The slide viewer by mouse, by keyboard alone, and by an address that names a place."""

import pytest

from tests.live_site import wait_until


@pytest.fixture
def viewer(visitor, logins, site):
    """Return a pathologist in front of an open slide."""
    pathologist = next(user for user in logins["users"] if "pathologist" in user["username"])
    visitor.login(pathologist["username"])
    visitor.page.click("a.accession >> nth=0")
    visitor.page.click(".slide-card a.button >> nth=0")
    until(visitor.page, "Boolean(window.slideViewer?.isOpen())")
    return visitor


def until(page, expression: str, argument=None) -> None:
    """Wait for an expression to hold. Playwright's own waiting evaluates strings in the page,
    which the CSP forbids."""
    wait_until(lambda: page.evaluate(expression, argument), seconds=30, what=expression)


def settled(page) -> None:
    """Wait until the slide stands still."""
    until(
        page,
        "() => { const v = slideViewer.viewport;"
        " return Math.abs(v.getZoom(true) / v.getZoom(false) - 1) < 1e-3 }",
    )


def box(page) -> dict[str, int]:
    return {
        name: int(page.input_value(f"#box-some [name={name}]"))
        for name in ("x", "y", "width", "height")
    }


def shown_at(page, x: int, y: int) -> tuple[float, float]:
    """Return the level-0 place under a point of the window."""
    return page.evaluate(
        """([x, y]) => {
            const at = document.getElementById("viewer").getBoundingClientRect();
            const point = new OpenSeadragon.Point(x - at.x, y - at.y);
            const place = slideViewer.viewport.viewerElementToImageCoordinates(point);
            return [place.x, place.y];
        }""",
        [x, y],
    )


def test_a_dragged_box_is_the_place_under_the_mouse(viewer):
    page = viewer.page
    page.click("[data-power='10']")
    settled(page)
    until(page, "document.getElementById('power-now').textContent === '10×'")
    assert page.get_attribute("[data-power='10']", "aria-pressed") == "true"
    left, top = shown_at(page, 400, 300)
    right, bottom = shown_at(page, 600, 420)
    page.click("[data-act=draw]")
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(500, 350, steps=4)
    page.mouse.move(600, 420, steps=2)
    page.mouse.up()
    page.wait_for_selector("#box-some:not([hidden])")
    drawn = box(page)
    expected = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    assert drawn == {name: pytest.approx(value, abs=2) for name, value in expected.items()}
    viewer.look("viewer-box")
    assert viewer.axe() == []


def test_it_works_by_keyboard_alone(viewer):
    page = viewer.page  # just opened: the slide has the keys
    for key, power in (("1", "2.0×"), ("5", "40×"), ("3", "10×")):
        page.keyboard.press(key)
        until(page, "power => document.getElementById('power-now').textContent === power", power)
    page.keyboard.press("f")  # OpenSeadragon would mirror the slide
    assert not page.evaluate("slideViewer.viewport.getFlip()")
    settled(page)
    page.keyboard.press("v")
    page.wait_for_selector("#box-some:not([hidden])")
    assert box(page)["width"] > 0
    page.keyboard.press("Escape")
    assert page.is_hidden("#box-some")
    page.click("[data-act=home]")  # by mouse: the slide keeps the keys
    page.keyboard.press("2")
    until(page, "power => document.getElementById('power-now').textContent === power", "5.0×")


def test_an_address_opens_the_slide_at_its_place(viewer):
    page = viewer.page
    address = page.url.split("#")[0]
    page.goto("about:blank")
    page.goto(f"{address}#l0=600,400,300,200")
    page.wait_for_selector(".region-place")
    settled(page)
    outline = page.locator(".region-place").bounding_box()
    left, top = shown_at(page, outline["x"], outline["y"])
    right, bottom = shown_at(
        page, outline["x"] + outline["width"], outline["y"] + outline["height"]
    )
    assert (left, top, right - left, bottom - top) == pytest.approx((600, 400, 300, 200), abs=4)


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_pages_of_the_portal_have_no_barriers(visitor, logins):
    visitor.goto("/login/")
    assert visitor.axe() == []
    pathologist = next(user for user in logins["users"] if "pathologist" in user["username"])
    visitor.login(pathologist["username"])
    for path in ("/", "/?text=nobody-is-called-that", "/cohorts/", "/cohorts/new/", "/nowhere/"):
        visitor.goto(path)
        assert visitor.axe() == [], path
    visitor.goto("/")
    visitor.page.click("a.accession >> nth=0")
    assert visitor.axe() == []
