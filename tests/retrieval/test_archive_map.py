"""The map of the archive: like beside like, served in scope only, new slides find their place."""

import gzip
import json
import struct
from uuid import UUID

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from cases.models import Cohort, CohortEntry
from cases.permissions import Role
from retrieval.engine.layout import fit_layout
from retrieval.models import EmbeddingModel, MapPoint, MapRun, SlideEmbedding
from retrieval.selectors_map import archive_map
from retrieval.services.archive_map import map_compute, map_place
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image

WIDTH = 16


def two_kinds(count: int) -> np.ndarray:
    """Return unit vectors around two directions, half and half."""
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 0.1, (count, WIDTH)).astype(np.float32)
    rows[: count // 2, 0] += 1
    rows[count // 2 :, 1] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def told_apart(places: np.ndarray, half: int) -> bool:
    """Return whether the halves lie farther from each other than they are wide."""
    one, other = places[:half], places[half:]
    apart = np.linalg.norm(np.median(one, axis=0) - np.median(other, axis=0))
    return bool(apart > max(one.std(), other.std()))


def test_like_lies_beside_like_and_others_are_placed_there():
    """UMAP itself, once: the other tests lay out too few slides for it."""
    vectors = two_kinds(80)
    layout = fit_layout(vectors)
    assert layout.places.shape == (80, 2)
    assert np.isfinite(layout.places).all()
    assert np.abs(layout.places).max() <= 2
    assert told_apart(layout.places, 40)
    rest = two_kinds(200)[::-1].copy()
    assert told_apart(layout.place(rest), 100)
    assert np.allclose(layout.place(vectors), layout.places, atol=0.05)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_slides_is_laid_out_too(count):
    places = fit_layout(two_kinds(10)[:count]).places
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


@pytest.fixture
def model(db) -> EmbeddingModel:
    return EmbeddingModel.objects.create(
        name="tiny",
        modality="image",
        encoder="tiny",
        aggregator="prototypes",
        weights_sha256="0" * 64,
        dimension=WIDTH,
        token_count=1,
        is_active=True,
    )


def embed(image, model, vector) -> None:
    SlideEmbedding.objects.create(
        slide_image=image,
        department=image.department,
        model=model,
        vector=vector.tolist(),
        mosaic=vector.astype("<f2").tobytes(),
        places=[{"x_l0": 0, "y_l0": 0, "size_l0": 64, "share": 1.0}],
    )


@pytest.fixture
def archive(model):
    north, south = DepartmentFactory(code="north"), DepartmentFactory(code="south")
    images = [make_slide_image(north if at % 2 else south, scanner=f"S{at}") for at in range(10)]
    for image, vector in zip(images, two_kinds(10), strict=True):
        embed(image, model, vector)
    map_compute(model.pk)
    return north, south, images


def browser(department, role=Role.PATHOLOGIST) -> Client:
    client = Client()
    client.force_login(make_member(department, role))
    return client


def unpacked(body: bytes) -> tuple[dict, list[UUID]]:
    (length,) = struct.unpack_from("<I", body)
    head = json.loads(body[4 : 4 + length])
    ids = body[len(body) - 16 * head["count"] :]
    assert len(body) == 4 + length + head["count"] * (8 + 2 * len(head["colours"]) + 16)
    return head, [UUID(bytes=ids[at : at + 16]) for at in range(0, len(ids), 16)]


def test_it_is_served_in_scope_only(archive):
    north, south, images = archive
    own = {image.pk for image in images if image.department == north}
    client = browser(north)
    body = client.get(reverse("map_points")).content
    head, ids = unpacked(body)
    assert set(ids) == own
    assert ids == sorted(ids)
    foreign = [image for image in images if image.department == south]
    for image in foreign:
        assert image.pk.bytes not in body
        assert image.scanner not in head["labels"]["scanner"]
    assert head["labels"]["department"] == [north.name]
    assert str(len(images)) not in json.dumps(head)
    lent = Cohort.objects.create(department=south, name="Lent")
    CohortEntry.objects.create(cohort=lent, slide_image=foreign[0])
    lent.shared_with.add(north)
    zipped = client.get(reverse("map_points"), headers={"Accept-Encoding": "gzip"})
    assert zipped["Content-Encoding"] == "gzip"
    assert set(unpacked(gzip.decompress(zipped.content))[1]) == own | {foreign[0].pk}


def test_who_may_not_search_gets_none(archive):
    client = browser(None, Role.SYSTEM_ADMINISTRATOR)
    assert client.get(reverse("map")).status_code == 403
    assert client.get(reverse("map_points")).status_code == 403


def test_a_line_of_few_patients_is_not_told(archive):
    north, _south, images = archive
    own = [image for image in images if image.department == north]
    ReportFactory(case=own[0].slide.case, diagnosis_code="8000/3", diagnosis_line="Of Mr Secret")
    for image in own[1:4]:
        ReportFactory(case=image.slide.case, diagnosis_code="8140/3", diagnosis_line="Adenoca")
    labels = archive_map(make_member(north, Role.PATHOLOGIST)).labels["diagnosis"]
    assert set(labels) == {"8140/3 Adenoca", "8000/3", "not known"}


def test_a_new_slide_lies_by_its_nearest_and_a_new_run_takes_the_place(archive, model):
    north, _south, images = archive
    new = make_slide_image(north)
    vectors = two_kinds(10)
    embed(new, model, vectors[0])
    assert map_place(new.pk)
    at = {point.slide_image_id: np.array([point.x, point.y]) for point in MapPoint.objects.all()}
    near = np.median([at[image.pk] for image in images[:5]], axis=0)
    far = np.median([at[image.pk] for image in images[5:]], axis=0)
    assert np.linalg.norm(at[new.pk] - near) < np.linalg.norm(at[new.pk] - far)
    map_compute(model.pk)
    assert MapRun.objects.get().slide_count == 11
    assert MapPoint.objects.count() == 11


def test_without_a_map_the_page_gets_an_empty_one(db):
    head, ids = unpacked(browser(DepartmentFactory()).get(reverse("map_points")).content)
    assert (head["count"], ids) == (0, [])
