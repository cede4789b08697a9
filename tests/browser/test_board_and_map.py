"""A tumour board that is walked by keys, and the map of the archive with its lasso."""

from datetime import date

from tests.browser.conftest import AXE, Visitor


def test_a_board_is_filled_ordered_and_walked_by_keys(visitor: Visitor):
    page = visitor.page
    visitor.login("northside-pathologist")
    visitor.goto("/boards/new/")
    page.fill("input[name=title]", "Lung board")
    page.fill("input[name=held_on]", date(2026, 12, 1).isoformat())
    page.click("button:has-text('Create the list')")
    page.wait_for_url(lambda url: "/boards/" in url and "new" not in url)
    board = page.url
    visitor.goto("/")
    for key in ("j", "x", "j", "x", "t"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector(".messages :text('2 cases added')")
    page.goto(board)
    first = page.locator("[data-board] th[scope=row] a").first.text_content()
    page.keyboard.press("j")
    page.keyboard.press("d")
    page.wait_for_selector(f"tr[data-number='2'] :text('{first}')")
    visitor.look("board")
    found = visitor.axe() if AXE.exists() else []
    page.keyboard.press("s")
    page.wait_for_selector("text=1 of 2")
    page.wait_for_selector("#power-now:not(:empty)")
    # The slide has the focus, and the keys of the list work on.
    page.click("#viewer")
    page.keyboard.press("n")
    page.wait_for_selector("text=2 of 2")
    page.wait_for_selector("#power-now:not(:empty)")
    visitor.look("board-walk")
    found += visitor.axe() if AXE.exists() else []
    page.keyboard.press("p")
    page.wait_for_selector("text=1 of 2")
    names = page.locator(".viewer-side .mono").first.text_content()
    page.click("button:has-text('Present')")
    page.wait_for_selector("text=identifiers are hidden")
    assert names not in page.content()
    visitor.look("board-walk-presented")
    found += visitor.axe() if AXE.exists() else []
    page.emulate_media(color_scheme="dark")
    visitor.goto("/")
    visitor.look("work-list-presented")
    found += visitor.axe() if AXE.exists() else []
    page.click("button:has-text('End presentation')")
    page.wait_for_selector("button:has-text('Present')")
    assert found == []


def test_the_map_is_drawn_and_a_lasso_selects(visitor: Visitor):
    page = visitor.page
    visitor.site.manage("map_archive")
    visitor.login("northside-pathologist")
    visitor.goto("/map/")
    page.wait_for_selector("#map-stage[data-drawn]")
    count = page.evaluate("archiveMap.n")
    assert page.evaluate("Boolean(archiveMap.points)"), "no WebGL 2 in this browser"
    lit = page.evaluate(
        """() => { const { gl, canvas } = archiveMap.points;
        const bytes = new Uint8Array(4 * canvas.width * canvas.height);
        gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
        return bytes.some((byte) => byte > 0); }"""
    )
    assert lit
    box = page.locator("#map-stage").bounding_box()
    assert box
    page.click("[data-act=lasso]")
    corners = [(2, 2), (box["width"] - 2, 2), (box["width"] - 2, box["height"] - 2)]
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] - 2)
    page.mouse.down()
    for x, y in corners:
        page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.up()
    assert page.evaluate("archiveMap.selected.size") == count
    assert page.locator("#map-chosen-list a").count() == count
    visitor.look("map")
    # Without a mouse: a group of the table.
    page.keyboard.press("Escape")
    page.locator("#map-legend button").first.focus()
    page.keyboard.press("Enter")
    chosen = page.evaluate("archiveMap.selected.size")
    assert 0 < chosen <= count
    found = visitor.axe() if AXE.exists() else []
    assert found == []
    page.locator("#map-chosen-list a").first.click()
    page.wait_for_url("**/slides/*/")
