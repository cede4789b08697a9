"""The kinds of tissue on a slide, and slides side by side, in the browser."""

import pytest

from tests.browser.test_viewer import settled, until, viewer  # noqa: F401 - a fixture


def test_the_kinds_of_tissue_are_walked_through(viewer):  # noqa: F811
    page = viewer.page
    page.wait_for_selector("#places-some:not([hidden])")
    kinds = page.locator("#places-list button").count()
    assert kinds >= 2
    page.keyboard.press("g")
    until(page, "count => document.querySelectorAll('.tissue-box').length === count", kinds)
    page.keyboard.press("n")
    page.keyboard.press("n")
    until(page, "document.querySelector('.tissue-box.is-chosen span').textContent === '2'")
    settled(page)
    page.click("#places-spread")
    page.wait_for_selector(".tissue-spread", state="attached")
    page.click("[data-act=turn-right]")
    until(page, "Math.round(slideViewer.viewport.getRotation(true)) === 15")
    assert viewer.axe() == []
    viewer.look("viewer-kinds-of-tissue")


def stands(page) -> list[dict[str, float]]:
    """Return where the panes stand, once they stand still: a key moves them over some frames."""
    until(page, "document.body.dataset.ready === 'true'")
    before = None
    while before != (now := page.evaluate("comparePanes()")):
        before = now
        page.wait_for_timeout(300)
    return now


def test_an_answer_is_compared_in_micrometres(viewer):  # noqa: F811
    page = viewer.page
    page.click(".viewer-side button:has-text('Find similar')")
    page.click("a:has-text('Compare side by side') >> nth=0")
    one, other = stands(page)
    assert one["scale"] == pytest.approx(other["scale"], rel=1e-3)
    until(page, "document.getElementById('match-now').textContent.startsWith('1 /')")
    page.focus(".compare-pane .openseadragon-canvas >> nth=0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("3")
    until(page, "document.getElementById('power-now').textContent === '10×'")
    moved_one, moved_other = stands(page)
    assert moved_one["x"] != pytest.approx(one["x"])
    # Both by the same way on the glass, wherever they were.
    for name in ("x", "y"):
        way = moved_one[name] - one[name]
        assert moved_other[name] - other[name] == pytest.approx(way, abs=2)
    assert moved_one["scale"] == pytest.approx(moved_other["scale"], rel=1e-3)
    viewer.look("compare")
    assert viewer.axe() == []
    page.focus(".compare-pane .openseadragon-canvas >> nth=0")  # axe has moved it
    page.keyboard.press("l")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    alone_one, alone_other = stands(page)
    assert alone_one["y"] != pytest.approx(moved_one["y"])
    assert (alone_other["x"], alone_other["y"]) == pytest.approx(
        (moved_other["x"], moved_other["y"])
    )
