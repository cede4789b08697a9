"""From sign-in over the upload of real slides to a result page, and who does not see it."""

from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.live_site import wait_until

SVS = "slides/svs/cmu-1-small-region.svs"
DICOM = "slides/dicom/cmu-1-small-region-with-label"


def send(visitor: Visitor, picker: str, files: object, accession: str, mrn: str) -> None:
    """Fill the upload page and send; returns when the server has judged every slide."""
    page = visitor.page
    visitor.goto("/uploads/new/")
    page.set_input_files(picker, files)
    page.fill("input[name=accession_number]", accession)
    page.fill("input[name=mrn]", mrn)
    visitor.look(f"upload-chosen-{accession}")
    page.click("button[data-send]")
    page.wait_for_url("**/uploads/*-*-*/", timeout=60_000)
    expect(page.locator("#upload-status .badge-ok").last).to_be_visible(timeout=90_000)


@pytest.fixture
def real(shared_data: Path) -> Path:
    """Return the folder of real slides."""
    return shared_data


def test_real_slides_come_in_and_the_archive_answers(visitor, site, real):
    page = visitor.page
    visitor.login("northside-pathologist")

    send(visitor, "#pick-files", str(real / SVS), "E2E-SVS", "E2E-1")
    expect(page.locator("#upload-status")).to_contain_text("E2E-SVS")
    visitor.look("upload-done")
    send(visitor, "#pick-folder", str(real / DICOM), "E2E-DICOM", "E2E-2")
    expect(page.locator("#upload-status")).to_contain_text("E2E-DICOM")

    # Both are scans of the same piece of glass, entered as two patients' slides: the best
    # answer for one must be the other.
    wait_until(
        lambda: (
            site.ask(
                "SlideIndex.objects.filter(state='indexed', "
                "slide_image__slide__case__accession_number__startswith='E2E-').count()"
            )
            == 2
        ),
        seconds=180,
        what="the two uploaded slides to be indexed",
        every=2,
    )
    visitor.goto("/?text=E2E-SVS")
    page.click("a:has-text('E2E-SVS')")
    visitor.look("case-of-upload")
    page.click("a[href^='/slides/']")
    expect(page.locator("#viewer canvas").first).to_be_visible()
    expect(page.locator("#power-now")).not_to_be_empty()
    expect(page.locator("#scale-bar")).to_be_visible()
    visitor.look("viewer-of-upload")
    page.click("button:has-text('Find similar')")
    page.wait_for_url("**/searches/*/")
    first = page.locator("article.hit").first
    expect(first).to_contain_text("E2E-DICOM")
    expect(first.locator(".pairs img").first).to_be_visible()
    expect(page.locator("#vote")).to_be_visible()
    visitor.look("results-of-upload")


def test_a_region_a_text_and_an_image_find_slides(visitor, site, tmp_path):
    page = visitor.page
    visitor.login("northside-pathologist")
    page.locator("tbody a[href^='/cases/']").first.click()
    page.locator("a[href^='/slides/']").first.click()
    expect(page.locator("#power-now")).not_to_be_empty()
    page.click("button:has-text('Box = view')")
    expect(page.locator("#box-size")).not_to_be_empty()
    visitor.look("viewer-box")
    page.click("button:has-text('Search this region')")
    page.wait_for_url("**/searches/*/")
    assert page.locator("article.hit").count() > 0
    patch = urlsplit(str(page.locator(".pairs img").first.get_attribute("src")))

    visitor.goto("/search/")
    visitor.look("search")
    page.fill("textarea[name=text], input[name=text]", "adenocarcinoma")
    page.click("main form[data-search-form] button.button-primary")
    page.wait_for_url("**/searches/*/")
    expect(page.locator("article.hit mark").first).to_contain_text("denocarcinoma")
    visitor.look("results-of-words")
    text_url = page.url

    # A matched patch with what lies around it, as an image of its own, 768 pixels wide.
    place = {name: int(float(values[0])) for name, values in parse_qs(patch.query).items()}
    side = 3 * place["width"]
    around = {
        "x": max(0, place["x"] - place["width"]),
        "y": max(0, place["y"] - place["height"]),
        "width": side,
        "height": side,
        "size": 768,
    }
    larger = patch._replace(query=urlencode(around)).geturl()
    picture = tmp_path / "patch.jpeg"
    picture.write_bytes(page.request.get(site.url + larger).body())
    visitor.goto("/search/")
    page.set_input_files("input[type=file][name=image]", str(picture))
    page.fill("input[name=image_mpp]", f"{side * 0.5 / 768:.3f}")
    visitor.look("search-image")
    page.click("main form[data-search-form] button.button-primary")
    page.wait_for_load_state("networkidle")
    assert page.locator("main .error, main .notice-bad").all_text_contents() == []
    page.wait_for_url("**/searches/*/")
    assert page.url != text_url
    assert page.locator("article.hit").count() > 0


def test_another_department_sees_nothing_of_it(visitor, site):
    """The result, the slide, its tiles and its case of one department are 404 in the other."""
    page = visitor.page
    visitor.login("northside-pathologist")
    page.locator("tbody a[href^='/cases/']").first.click()
    case_url = page.url
    accession_number = str(page.locator("h1").text_content()).split()[-1]
    slide_path = str(page.locator("a[href^='/slides/']").first.get_attribute("href"))
    page.click("button:has-text('Find similar')")
    page.wait_for_url("**/searches/*/")
    result_url = page.url
    page.click("button:has-text('Sign out')")

    visitor.login("lakeview-pathologist")
    for url in (
        result_url,
        case_url,
        site.url + slide_path,
        f"{site.url}{slide_path}thumbnail.jpeg",
        f"{site.url}{slide_path}image_files/0/0_0.jpeg",
        f"{site.url}{slide_path}region.jpeg?x=0&y=0&width=100&height=100&size=100",
    ):
        assert page.request.get(url).status == 404, url
    visitor.goto(f"/?text={accession_number}")
    assert page.locator(f"main tbody a:has-text('{accession_number}')").count() == 0
    page.goto(result_url)
    visitor.look("not-found")
