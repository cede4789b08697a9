"""Every kind of question while a trained model is active: a region, a picture, words alone."""

from contextlib import contextmanager

import numpy as np
import pytest

from cases.permissions import Role
from retrieval.engine.encoders import IMAGE_ENCODERS
from retrieval.models import EmbeddingModel
from retrieval.services.explaining import hit_explain
from retrieval.services.query_mosaics import Region
from retrieval.services.search import search_run
from retrieval.services.switching import model_activate, model_reembed, model_reembed_here
from tests.factories import DepartmentFactory, ReportFactory, make_member
from tests.retrieval.fakes import FAKE_SPEC, PINK, ArraySlide, painted
from tests.retrieval.made_archive import made_archive
from tests.retrieval.test_search_pixels import picture
from tests.retrieval.trained import aligner_model, indexed_archive, prototype_model

pytestmark = pytest.mark.django_db
# The slide whose tissue the region and the picture show.
WANTED = 3


@pytest.fixture
def archive():
    return made_archive(slides=90)


@pytest.fixture
def department():
    return DepartmentFactory(code="lung")


@pytest.fixture
def anna(department):
    return make_member(department, Role.PATHOLOGIST)


@pytest.fixture
def old():
    return prototype_model()


@pytest.fixture
def slides(department, old, archive):
    return indexed_archive(department, old, archive=archive)


@pytest.fixture
def new(slides, archive):
    model = aligner_model(archive)
    model_reembed(model=model)
    model_reembed_here(model=model)
    model_activate(model=model)
    EmbeddingModel.objects.filter(modality="text").delete()
    return model


@pytest.fixture(autouse=True)
def pixels(monkeypatch, archive):
    """Let every region and picture show the tissue of one slide."""
    if "fake" not in IMAGE_ENCODERS:
        monkeypatch.setitem(IMAGE_ENCODERS._specs, "fake", FAKE_SPEC)
    bag = archive.bag(WANTED).astype(np.float32)

    @contextmanager
    def reader(slide_image):
        yield ArraySlide(painted(1000, 1000, (0, 0, 1000, 1000, PINK)))

    monkeypatch.setattr("retrieval.services.query_mosaics.slide_reader", reader)
    monkeypatch.setattr(
        "retrieval.services.query_mosaics.encode_patches",
        lambda model, patches: np.resize(bag, (len(patches), bag.shape[1])),
    )


def assert_answered_by(query, model, slide_image, user):
    assert query.image_model == model
    assert len(query.vector) == model.dimension
    assert len(bytes(query.mosaic)) % (2 * model.token_width) == 0
    first = query.hits.get(rank=1)
    assert first.slide_image == slide_image
    explained = hit_explain(user=user, query=query, rank=1)
    assert not explained.is_outdated, "the parts add up to what ranked"
    assert explained.mosaic_share == 0.9


def test_a_picture_finds_its_tissue_and_is_encoded_anew_for_the_model_before(
    anna, slides, old, new
):
    query = search_run(anna, image=picture(500), image_mpp=1.0)
    assert query.hits.count() == len(slides)
    assert_answered_by(query, new, slides[WANTED], anna)
    model_activate(model=old)
    again = search_run(anna, repeat=query)
    assert_answered_by(again, old, slides[WANTED], anna)


def test_a_region_finds_its_tissue_in_other_slides(anna, slides, new):
    query = search_run(anna, slide_image=slides[5], region=Region(0, 0, 600, 600))
    assert query.region["width_l0"] == 600
    assert slides[5].pk not in {hit.slide_image_id for hit in query.hits.all()}
    assert_answered_by(query, new, slides[WANTED], anna)


def test_a_picture_and_words_together(anna, slides, new):
    query = search_run(
        anna, image=picture(500), image_mpp=1.0, text="sheets of atypical lymphocytes"
    )
    for hit in query.hits.all():
        assert hit.image_similarity is not None and hit.tissue_text_similarity is not None


def test_words_alone_find_slides_that_have_no_report(anna, slides, new, archive):
    """One slide of the diagnosis has a report; those without are found by their tissue."""
    of_kind = [i for i in range(len(slides)) if archive.labels[i] == "lymphoma"]
    told = of_kind[0]
    ReportFactory(
        case=slides[told].slide.case, diagnosis_text=archive.reports[archive.patients[told]]
    )
    query = search_run(anna, text="diffuse sheets of large atypical lymphocytes")
    hits = list(query.hits.all())
    assert query.image_model is None
    assert hits[0].slide_image == slides[told] and hits[0].full_text_match
    silent = [hit for hit in hits if hit.slide_image != slides[told]]
    assert all(
        hit.tissue_text_similarity is not None
        and hit.text_similarity is None
        and not hit.full_text_match
        for hit in silent
    )
    others = {slides[i].pk for i in of_kind[1:]}
    found = {hit.slide_image_id for hit in silent[: len(others)]}
    assert len(found & others) >= len(others) - 1 >= 1
