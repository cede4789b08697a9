"""Answers to questions by an uploaded image and by a region of a slide."""

import io

import numpy as np
import pytest
from PIL import Image

from retrieval.filters import SearchFilters
from retrieval.services.query_images import QueryImageRefused
from retrieval.services.query_mosaics import QueryRefused, Region
from retrieval.services.search import search_run
from tests.factories import (
    make_slide_image,
)
from tests.retrieval.search_cast import slides
from tests.retrieval.vectors import axis
from tests.synthetic_slide import write_tiff_slide

pytestmark = pytest.mark.django_db


def picture(side: int = 500, mode: str = "RGB", kind: str = "PNG") -> bytes:
    """Return a picture that passes for tissue: pink with violet specks."""
    rng = np.random.default_rng(0)
    pixels = np.full((side, side, 3), (225, 150, 185), np.uint8)
    specks = rng.random((side, side)) < 0.3
    pixels[specks] = (110, 60, 140)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture
def encoded(monkeypatch):
    """Let every patch of a query mean the first axis; count the patches."""
    sizes = []

    def encode(model, patches):
        sizes.append(len(patches))
        return np.tile(axis(0), (len(patches), 1)) + np.float32(0.01)

    monkeypatch.setattr("retrieval.services.query_mosaics.encode_patches", encode)
    return sizes


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "PNG"), ("RGBA", "PNG"), ("RGB", "JPEG")])
def test_search_by_an_uploaded_image(anna, lung, image_model, encoded, mode, kind):
    near, far = slides(lung, image_model, axis(0), axis(1))
    query = search_run(anna, image=picture(500, mode, kind), image_mpp=0.5)
    assert [hit.slide_image for hit in query.hits.all()] == [near, far]
    assert encoded == [4]  # 500 px at 0.5 µm hold 2 x 2 patches of 224
    assert Image.open(io.BytesIO(query.image_jpeg)).size == (500, 500)
    assert query.hits.get(rank=1).pairs[0]["query"]["size_l0"] == 224

    # Asked anew with a filter, nothing is encoded again.
    again = search_run(anna, repeat=query, filters=SearchFilters(organ="Lung"))
    assert encoded == [4]
    assert [h.image_similarity for h in again.hits.all()] == pytest.approx(
        [h.image_similarity for h in query.hits.all()], abs=2e-3
    )


def test_a_large_image_is_kept_small_with_its_places(anna, lung, image_model, encoded):
    slides(lung, image_model, axis(0))
    query = search_run(anna, image=picture(3200), image_mpp=0.25)
    assert Image.open(io.BytesIO(query.image_jpeg)).size == (1600, 1600)
    assert query.image_mpp == pytest.approx(0.5)
    place = query.hits.get().pairs[0]["query"]
    assert place["size_l0"] == 224
    assert max(place["x_l0"], place["y_l0"]) <= 1600


@pytest.mark.parametrize(
    ("data", "mpp", "code"),
    [
        (picture(), None, "image_mpp_required"),
        (picture(), 0.0, "image_mpp_absurd"),
        (picture(), float("inf"), "image_mpp_absurd"),
        (b"GIF89a" + b"\0" * 100, 0.5, "not_an_image"),
        (b"<svg/>", 0.5, "not_an_image"),
        (picture()[:300], 0.5, "image_corrupt"),
        (picture(20), 0.5, "image_too_small"),
        (b"\0" * (20 * 1024**2 + 1), 0.5, "image_too_large"),
    ],
)
def test_images_that_cannot_be_searched_by_are_named(anna, image_model, data, mpp, code):
    with pytest.raises(QueryImageRefused) as error:
        search_run(anna, image=data, image_mpp=mpp)
    assert error.value.code == code


def test_a_picture_with_too_many_pixels_is_refused_by_its_header(anna, image_model):
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    with pytest.raises(QueryImageRefused) as error:
        search_run(anna, image=file.getvalue(), image_mpp=0.5)
    assert error.value.code == "image_too_many_pixels"


def test_an_empty_picture_and_a_coarse_one_are_named(anna, image_model, encoded):
    file = io.BytesIO()
    Image.new("RGB", (500, 500), "white").save(file, "PNG")
    with pytest.raises(QueryRefused) as error:
        search_run(anna, image=file.getvalue(), image_mpp=1.0)
    assert error.value.code == "image_no_tissue"
    with pytest.raises(QueryRefused) as error:
        search_run(anna, image=picture(), image_mpp=8.0)
    assert error.value.code == "image_too_coarse"


def test_search_by_a_region_reads_its_patches_and_keeps_the_clipped_box(
    anna, lung, image_model, encoded, settings, tmp_path
):
    settings.DATA_DIR = tmp_path
    rng = np.random.default_rng(0)
    pixels = np.full((1000, 1400, 3), 245, np.uint8)  # glass, with tissue on the left
    pixels[:, :700] = (225, 150, 185)
    pixels[:, :700][rng.random((1000, 700)) < 0.3] = (110, 60, 140)
    write_tiff_slide(tmp_path / "slide.tiff", rgb=pixels)
    asked = make_slide_image(lung, path="slide.tiff", width_l0=1400, height_l0=1000, mpp=0.5)
    near, _far = slides(lung, image_model, axis(0), axis(1))

    query = search_run(anna, slide_image=asked, region=Region(-100, 100, 600, 500))
    assert query.region == {"x_l0": 0, "y_l0": 100, "width_l0": 500, "height_l0": 500}
    assert encoded == [4]
    assert query.hits.get(rank=1).slide_image == near
    place = query.hits.get(rank=1).pairs[0]["query"]
    assert 0 <= place["x_l0"] <= 500 - 224
    assert 100 <= place["y_l0"] <= 600 - 224

    small = search_run(anna, slide_image=asked, region=Region(300, 300, 60, 60))
    assert encoded == [4, 1]
    assert "one patch" in small.notices[0]
    with pytest.raises(QueryRefused) as error:
        search_run(anna, slide_image=asked, region=Region(1000, 100, 300, 300))
    assert error.value.code == "region_no_tissue"
