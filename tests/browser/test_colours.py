"""Colours as scanned and corrected in the viewer, on a slide whose profile swaps red and green."""

import pydicom
import pytest

from tests.browser.test_viewer import settled, until
from tests.icc import swapped

# The mean colour of what is stained, whichever slide it is: glass and fat have none.
STAINED = """() => {
  const canvas = slideViewer.drawer.canvas;
  const copy = document.createElement("canvas"), to = copy.getContext("2d");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  to.drawImage(canvas, 0, 0);
  const data = to.getImageData(0, 0, copy.width, copy.height).data, sum = [0, 0, 0];
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const rgb = [data[at], data[at + 1], data[at + 2]];
    if (!data[at + 3] || Math.max(...rgb) - Math.min(...rgb) < 40) continue;
    count += 1;
    for (const c of [0, 1, 2]) sum[c] += rgb[c];
  }
  return sum.map((value) => Math.round(value / count));
}"""
LOADED = "() => slideViewer.world.getItemAt(0)?.getFullyLoaded()"


@pytest.fixture
def slide(site) -> str:
    """Return the id of a demo slide that now has a profile of its own."""
    pk, path = site.ask(
        "[[str(i.pk), i.path] for i in SlideImage.objects.filter("
        "source_format='dicom', department__code='northside').order_by('pk')][0]"
    )
    for file in (site.data_dir / path).glob("*.dcm"):
        dataset = pydicom.dcmread(file)
        if "OpticalPathSequence" in dataset:
            dataset.OpticalPathSequence[0].ICCProfile = swapped()
            dataset.save_as(file)
    # The server may have it open: another hash is another slide to it.
    site.ask(f"SlideImage.objects.filter(pk='{pk}').update(content_sha256='{'5' * 64}')")
    return pk


@pytest.mark.parametrize("theme", ["light", "dark"], indirect=True)
def test_colours_are_shown_as_scanned_and_corrected(visitor, slide, theme):
    visitor.login("northside-pathologist")
    visitor.goto(f"/slides/{slide}/")
    page = visitor.page
    until(page, "Boolean(window.slideViewer?.isOpen())")
    page.click("[data-power='5']")
    settled(page)
    until(page, LOADED)
    zoom = page.evaluate("slideViewer.viewport.getZoom()")
    red, green, blue = page.evaluate(STAINED)
    assert red - green > 12, "there is no colour to be seen"
    page.focus("[data-colours]")
    page.keyboard.press("Enter")
    until(page, LOADED)
    until(page, f"() => ({STAINED})()[1] - {green} > 6")
    assert page.evaluate(STAINED) == pytest.approx([green, red, blue], abs=8)
    assert page.evaluate("slideViewer.viewport.getZoom()") == pytest.approx(zoom)
    assert page.get_attribute("[data-colours]", "aria-pressed") == "true"
    visitor.look(f"viewer-colours-{theme}")
    assert visitor.axe() == []
    # The choice stays with this browser.
    page.reload()
    until(page, "Boolean(window.slideViewer?.isOpen())")
    until(page, "document.querySelector('[data-colours]').getAttribute('aria-pressed') === 'true'")
    page.click("[data-colours]")
    assert page.get_attribute("[data-colours]", "aria-pressed") == "false"
