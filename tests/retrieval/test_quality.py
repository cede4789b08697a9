"""Focus and ink: measured as a person would say, once, and shown beside the answer."""

from contextlib import contextmanager

import numpy as np
import pytest
from django.urls import reverse
from scipy import ndimage

from cases.permissions import Role
from cases.wsi.errors import WsiError
from retrieval.engine.quality import BLURRED_FROM, PEN_FROM, blur_measure, pen_share
from retrieval.models import SlideQuality
from retrieval.services import quality
from retrieval.services.search import search_run
from retrieval.tasks import quality_sweep_task
from tests.factories import DepartmentFactory, make_member, make_slide_image
from tests.retrieval.vectors import axis, embed, make_model


def nuclei(sigma: float = 0.0, seed: int = 0) -> np.ndarray:
    """Return 256 x 256 pixels of dark discs on pink, uint8, blurred by so many pixels."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256]
    mask = np.zeros((256, 256), np.float32)
    for y, x in random.uniform(0, 256, (120, 2)):
        mask = np.maximum(mask, np.clip(7 - np.hypot(rows - y, columns - x), 0, 1))
    picture = np.array([226, 170, 200]) + mask[..., None] * np.array([-130, -110, -70])
    picture = picture + random.normal(0, 3, picture.shape)
    if sigma:
        picture = ndimage.gaussian_filter(picture, (sigma, sigma, 0))
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_blur_grows_with_blurring_and_crosses_the_bound():
    measures = [blur_measure(nuclei(sigma)) for sigma in (0, 1, 2, 4, 6)]
    assert measures == sorted(measures)
    assert measures[0] < BLURRED_FROM - 0.1
    assert measures[-2] > BLURRED_FROM


def test_what_is_flat_is_not_called_blurred():
    assert blur_measure(np.full((64, 64, 3), 240, np.uint8)) is None


def test_real_tissue_is_sharp_until_it_is_blurred(shared_data):
    import openslide

    with openslide.OpenSlide(shared_data / "slides/svs/cmu-1-small-region.svs") as slide:
        crops = [
            np.asarray(slide.read_region((x, x), 0, (256, 256)).convert("RGB"))
            for x in range(0, 1900, 200)
        ]
        crops = [crop for crop in crops if crop.std() > 20]  # some are glass
        whole = np.asarray(slide.get_thumbnail((1024, 1024)).convert("RGB"))
    sharp = np.median([blur_measure(crop) for crop in crops])
    blurred = np.median([blur_measure(ndimage.gaussian_filter(crop, (4, 4, 0))) for crop in crops])
    assert sharp < 0.4 < BLURRED_FROM < blurred
    assert pen_share(whole) == 0


@pytest.mark.parametrize("ink", [(20, 130, 60), (30, 60, 190)])
def test_a_stroke_of_ink_is_found_and_specks_are_not(ink):
    picture = np.tile(nuclei(), (4, 4, 1))
    assert pen_share(picture) == 0
    picture[100:108, 100:500] = ink
    assert pen_share(picture) >= PEN_FROM
    picture = np.tile(nuclei(), (4, 4, 1))
    picture[::50, ::50] = ink
    assert pen_share(picture) == 0


class FakeReader:
    """A slide whose places are of one sharpness, with ink or without."""

    def __init__(self, sigma: float, ink: bool) -> None:
        self.sigma, self.ink = sigma, ink
        self.asked: list[float] = []

    def read_region_l0(self, x, y, width, height, out_width, out_height):
        self.asked.append(width)
        return nuclei(self.sigma)

    def thumbnail(self, max_px):
        picture = np.tile(nuclei(), (4, 4, 1))
        if self.ink:
            picture[100:120, 100:500] = (20, 130, 60)
        return picture


@pytest.fixture
def lung(db):
    return DepartmentFactory(code="lung")


@pytest.fixture
def opened(monkeypatch):
    """Return a function that says what any slide looks like when it is opened."""

    def use(reader):
        @contextmanager
        def open_it(_slide_image):
            if isinstance(reader, Exception):
                raise reader
            yield reader

        monkeypatch.setattr(quality, "slide_reader", open_it)
        return reader

    return use


@pytest.fixture
def slide_image(lung):
    image = make_slide_image(lung, mpp=0.25)
    embed(image, make_model("image"), axis(0))
    return image


def test_it_is_measured_where_the_mosaic_looked_at_one_resolution(slide_image, opened):
    reader = opened(FakeReader(sigma=5, ink=True))
    row = quality.quality_measure(slide_image.pk)
    assert row.blur > BLURRED_FROM
    assert row.pen_share >= PEN_FROM
    assert set(reader.asked) == {512.0}  # 128 µm at 0.25 µm a pixel


def test_ink_is_looked_for_only_where_no_stain_has_its_colours(slide_image, opened):
    opened(FakeReader(sigma=0, ink=True))
    slide = slide_image.slide
    for stain, known in (("Trichrome", False), ("", False), ("H & E", True), ("HE", True)):
        slide.stain = stain
        slide.save()
        assert (quality.quality_measure(slide_image.pk).pen_share is not None) is known


def test_a_coarse_scan_is_not_called_blurred(slide_image, opened):
    opened(FakeReader(sigma=5, ink=False))
    slide_image.mpp = 1.0
    slide_image.save()
    assert quality.quality_measure(slide_image.pk).blur is None


def test_what_cannot_be_read_is_tried_once(slide_image, opened):
    opened(WsiError("broken"))
    assert quality_sweep_task() == 1
    assert SlideQuality.objects.get().blur is None
    assert quality_sweep_task() == 0


def test_badges_say_it_beside_the_answer(client, lung, slide_image, opened):
    client.force_login(make_member(lung, Role.PATHOLOGIST))
    asked = make_slide_image(lung)
    model = slide_image.embeddings.get().model
    embed(asked, model, axis(0))
    user = make_member(lung, Role.PATHOLOGIST)
    query = search_run(user, slide_image=asked)
    address = reverse("search_results", args=[query.pk])
    for sigma, ink, said in ((5, False, [b"Blurred"]), (0, True, [b"Pen marks"]), (0, False, [])):
        opened(FakeReader(sigma, ink))
        quality.quality_measure(slide_image.pk)
        page = client.get(address).content
        assert [text for text in (b"Blurred", b"Pen marks") if text in page] == said
