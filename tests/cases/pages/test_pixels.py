"""Tiles, thumbnails, regions and labels: what they show, and to whom."""

from io import BytesIO

import numpy as np
import pytest
from django.conf import settings
from django.urls import reverse
from PIL import Image

from cases.models import AccessEvent, Cohort, CohortEntry, SlideImage
from cases.permissions import Role
from tests.cases.pages.conftest import HEIGHT, WIDTH
from tests.cases.wsi.test_colour import give_profile
from tests.factories import make_slide_image
from tests.icc import swapped
from tests.synthetic_slide import picture, write_dicom_slide

TOP = 10  # z-level of full resolution: 2**10 = 1024


def picture_of(response) -> np.ndarray:
    assert response.status_code == 200, response.content[:200]
    assert response["Content-Type"] == "image/jpeg"
    return np.asarray(Image.open(BytesIO(response.content))).astype(int)


def tile_url(image, z_level=TOP, column=0, row=0) -> str:
    return reverse("slide_tile", args=[image.pk, z_level, column, row])


@pytest.mark.parametrize("kind", ["tiff_slide", "dicom_slide"])
def test_it_shows_the_pixels_of_the_place(cast, request, kind):
    image = request.getfixturevalue(kind)
    client = cast.client(cast.north, Role.TECHNICIAN)
    tile = picture_of(client.get(tile_url(image, column=2, row=1)))
    # 254 pixels and one of each neighbour
    expected = picture(WIDTH, HEIGHT, seed=1)[253:509, 507:763].astype(int)
    assert tile.shape == expected.shape
    assert np.abs(tile - expected).mean() < 8
    elsewhere = picture(WIDTH, HEIGHT, seed=1)[0:256, 0:256].astype(int)
    assert np.abs(tile - elsewhere).mean() > 8


def test_it_describes_the_pyramid(cast, tiff_slide):
    response = cast.client(cast.north, Role.PATHOLOGIST).get(
        reverse("slide_dzi", args=[tiff_slide.pk])
    )
    assert response.status_code == 200
    assert f'Width="{WIDTH}"' in response.content.decode()


@pytest.mark.parametrize(
    ("z_level", "column", "row"), [(TOP + 1, 0, 0), (TOP, 5, 0), (TOP, 0, 4), (99, 0, 0)]
)
def test_it_has_no_tile_outside_the_pyramid(cast, tiff_slide, z_level, column, row):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    assert client.get(tile_url(tiff_slide, z_level, column, row)).status_code == 404


def test_it_may_be_kept_by_the_browser_alone_and_is_not_sent_twice(cast, tiff_slide):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    first = client.get(tile_url(tiff_slide))
    assert "private" in first["Cache-Control"]
    assert "max-age" in first["Cache-Control"]
    again = client.get(tile_url(tiff_slide), headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304
    assert not again.content
    other = client.get(tile_url(tiff_slide, row=1), headers={"If-None-Match": first["ETag"]})
    assert other.status_code == 200


def test_it_does_not_answer_a_known_etag_for_a_hidden_slide(cast, tiff_slide):
    etag = cast.client(cast.north, Role.PATHOLOGIST).get(tile_url(tiff_slide))["ETag"]
    foreign = cast.client(cast.south, Role.PATHOLOGIST)
    response = foreign.get(tile_url(tiff_slide), headers={"If-None-Match": etag})
    assert response.status_code == 404


PIXEL_ROUTES = ["slide", "slide_dzi", "slide_thumbnail", "slide_label", "slide_region"]


@pytest.mark.parametrize("role", [Role.PATHOLOGIST, Role.DEPARTMENT_ADMINISTRATOR])
def test_it_hides_every_picture_from_another_department(cast, dicom_slide, role):
    client = cast.client(cast.south, role)
    urls = [reverse(name, args=[dicom_slide.pk]) for name in PIXEL_ROUTES]
    for url in [*urls, tile_url(dicom_slide)]:
        response = client.get(url, {"x": 0, "y": 0, "width": 9, "height": 9})
        assert response.status_code == 404, url


def test_it_shows_nothing_to_a_system_administrator(cast, dicom_slide):
    client = cast.client(None, Role.SYSTEM_ADMINISTRATOR)
    for name in PIXEL_ROUTES:
        assert client.get(reverse(name, args=[dicom_slide.pk])).status_code == 404, name


def test_it_asks_who_is_there(client, tiff_slide):
    response = client.get(tile_url(tiff_slide))
    assert response.status_code == 302
    assert response["Location"].startswith(reverse("login"))


def test_it_opens_a_shared_slide_but_not_its_neighbour(cast, tiff_slide, dicom_slide):
    cohort = Cohort.objects.create(department=cast.north, name="Shared")
    CohortEntry.objects.create(cohort=cohort, slide_image=tiff_slide)
    cohort.shared_with.add(cast.south)
    client = cast.client(cast.south, Role.RESEARCHER)
    assert client.get(tile_url(tiff_slide)).status_code == 200
    assert client.get(tile_url(dicom_slide)).status_code == 404


def test_it_keeps_labels_for_those_who_may_see_them(cast, dicom_slide):
    url = reverse("slide_label", args=[dicom_slide.pk])
    assert cast.client(cast.north, Role.RESEARCHER).get(url).status_code == 403
    assert AccessEvent.objects.filter(action="denied").count() == 1
    response = cast.client(cast.north, Role.TECHNICIAN).get(url)
    assert picture_of(response).size
    assert response["Cache-Control"] == "no-store"
    look = AccessEvent.objects.get(action="view")
    assert look.detail == {"part": "label"}
    assert look.patient_id == dicom_slide.slide.case.patient_id


def test_it_keeps_the_label_of_a_shared_slide_to_its_department(cast, dicom_slide):
    cohort = Cohort.objects.create(department=cast.north, name="Shared")
    CohortEntry.objects.create(cohort=cohort, slide_image=dicom_slide)
    cohort.shared_with.add(cast.south)
    client = cast.client(cast.south, Role.PATHOLOGIST)
    assert client.get(reverse("slide_label", args=[dicom_slide.pk])).status_code == 403


def test_it_has_no_label_where_the_slide_has_none(cast, tiff_slide):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    assert client.get(reverse("slide_label", args=[tiff_slide.pk])).status_code == 404


def region(client, image, **query):
    return client.get(reverse("slide_region", args=[image.pk]), query)


def test_it_cuts_a_region_and_bounds_its_size(cast, tiff_slide):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    cut = picture_of(region(client, tiff_slide, x=100, y=50, width=200, height=100, size=100))
    assert cut.shape == (50, 100, 3)
    # never magnified
    small = picture_of(region(client, tiff_slide, x=0, y=0, width=20, height=10, size=700))
    assert small.shape == (10, 20, 3)
    whole = picture_of(region(client, tiff_slide, x=0, y=0, width=WIDTH, height=HEIGHT))
    assert whole.shape == (576, 768, 3)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"x": 0, "y": 0, "width": 0, "height": 10},
        {"x": -1, "y": 0, "width": 10, "height": 10},
        {"x": 1000, "y": 0, "width": 100, "height": 10},
        {"x": 0, "y": 0, "width": 10, "height": 10, "size": 5000},
        {"x": "a", "y": 0, "width": 10, "height": 10},
    ],
)
def test_it_refuses_a_region_that_is_none(cast, tiff_slide, query):
    response = region(cast.client(cast.north, Role.PATHOLOGIST), tiff_slide, **query)
    assert response.status_code == 400
    assert response.content.startswith(b"bad_region")


def test_it_makes_a_thumbnail_once(cast, tiff_slide):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    url = reverse("slide_thumbnail", args=[tiff_slide.pk])
    assert max(picture_of(client.get(url)).shape) == 512
    file = settings.DATA_DIR / "thumbnails" / f"{tiff_slide.pk}.jpeg"
    assert file.is_file()
    # kept: it comes also when the slide's own file is away
    (settings.DATA_DIR / tiff_slide.path).unlink()
    assert client.get(url).status_code == 200


@pytest.mark.parametrize("damage", ["away", "garbage"])
def test_it_names_why_a_slide_cannot_be_read(cast, tiff_slide, damage):
    file = settings.DATA_DIR / tiff_slide.path
    file.unlink()
    if damage == "garbage":
        file.write_bytes(b"not a slide" * 100)
    client = cast.client(cast.north, Role.PATHOLOGIST)
    tile = client.get(tile_url(tiff_slide))
    assert tile.status_code == 503
    code = tile.content.decode().split(":")[0]
    assert code
    page = client.get(reverse("slide", args=[tiff_slide.pk]))
    assert page.status_code == 200
    assert page.context["unreadable"].code == code
    assert str(settings.DATA_DIR) not in page.content.decode()
    assert "viewer.js" not in page.content.decode()


def test_it_counts_moving_about_in_a_slide_as_one_look(cast, tiff_slide):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    client.get(reverse("slide", args=[tiff_slide.pk]))
    client.get(reverse("slide_dzi", args=[tiff_slide.pk]))
    for row in range(3):
        client.get(tile_url(tiff_slide, row=row))
    client.get(reverse("slide", args=[tiff_slide.pk]))
    assert AccessEvent.objects.filter(action="view", object_id=str(tiff_slide.pk)).count() == 1


def test_its_tiles_come_as_scanned_or_in_corrected_colours(cast):
    image = make_slide_image(
        cast.north, width_l0=WIDTH, height_l0=HEIGHT, source_format=SlideImage.Format.DICOM
    )
    image.path = f"slides/{image.pk}"
    image.save()
    write_dicom_slide(settings.DATA_DIR / image.path, seed=1, change=give_profile(swapped()))
    client = cast.client(cast.north, Role.PATHOLOGIST)
    url = tile_url(image, column=2, row=1)
    scanned, corrected = client.get(url), client.get(f"{url}?colours=corrected")
    assert np.abs(picture_of(corrected) - picture_of(scanned)[..., [1, 0, 2]]).mean() < 4
    assert np.abs(picture_of(corrected) - picture_of(scanned)).mean() > 8
    # Neither is taken for the other that a browser has.
    kept = {"If-None-Match": scanned["ETag"]}
    assert client.get(f"{url}?colours=corrected", headers=kept).status_code == 200
    assert client.get(url, headers={"If-None-Match": corrected["ETag"]}).status_code == 200
    page = client.get(reverse("slide", args=[image.pk])).content.decode()
    assert "data-colours" in page


def test_a_slide_without_a_profile_offers_no_other_colours(cast, tiff_slide):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    asked = f"{tile_url(tiff_slide)}?colours=corrected"
    assert client.get(asked).content == client.get(tile_url(tiff_slide)).content
    assert "data-colours" not in client.get(reverse("slide", args=[tiff_slide.pk])).content.decode()
