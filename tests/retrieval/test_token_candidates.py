"""A small focus on an otherwise ordinary slide is found by its tokens, not by the slide vector."""

import numpy as np
import pytest
from django.db import connection

from cases.permissions import Role
from retrieval.codecs import codecs_forget
from retrieval.filters import SearchFilters
from retrieval.models import SlideEmbedding
from retrieval.querysets_planned import plans_forget
from retrieval.services import search_evidence
from retrieval.services.mosaic_codecs import codec_fit, mosaics_code
from retrieval.services.query_mosaics import image_part_of_slide
from retrieval.services.search_evidence import Scope, StageClock, evidence_gather
from tests.factories import DepartmentFactory, make_member
from tests.retrieval.many_slides import add_slides
from tests.retrieval.vectors import make_model, unit

pytestmark = pytest.mark.django_db

DIMENSION, SLIDES, TOKENS = 64, 1500, 16


@pytest.fixture(autouse=True)
def _nothing_remembered():
    plans_forget()
    codecs_forget()
    yield
    plans_forget()
    codecs_forget()


def near(centres: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    tokens = centres + generator.normal(scale=0.03, size=centres.shape)
    return (tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)).astype(np.float32)


def test_a_focus_of_one_token_in_sixteen_is_found(monkeypatch):
    generator = np.random.default_rng(7)
    model = make_model(dimension=DIMENSION)
    department = DepartmentFactory()
    kinds = near(generator.normal(size=(12, DIMENSION)), generator)
    focus = unit(generator.normal(size=DIMENSION))
    # A slide is mostly of one kind of tissue: the asking one of kind 0, the one to find of kind 11.
    kind = np.concatenate([np.arange(SLIDES - 2) % 12, [11, 0]])
    tokens = near(np.repeat(kinds[kind][:, None, :], TOKENS, axis=1), generator)
    tokens[-2:, 5] = near(np.stack([focus, focus]), generator)
    vectors = tokens.mean(axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    add_slides(model, department, vectors)
    rows = list(SlideEmbedding.objects.order_by("pk"))
    place = {"x_l0": 0, "y_l0": 0, "size_l0": 224, "share": 1 / TOKENS}
    for row, mosaic in zip(rows, tokens, strict=True):
        row.mosaic, row.places = mosaic.astype("<f2").tobytes(), [place] * TOKENS
    SlideEmbedding.objects.bulk_update(rows, ["mosaic", "places"])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE retrieval_slideembedding")
    # In an archive of this size one token is a larger share of all than in one of a million slides.
    monkeypatch.setattr(search_evidence, "PROBED_SHARE", 0.05)
    monkeypatch.setattr(search_evidence, "CANDIDATES", 200)
    hidden_in, asking = rows[-2].slide_image, rows[-1].slide_image
    member = make_member(department, Role.PATHOLOGIST)

    def found():
        part = image_part_of_slide(model, asking)
        scope = Scope(member, SearchFilters(), part, include_same_patient=True)
        return evidence_gather(scope, part, None, None, StageClock())

    assert hidden_in.pk not in found()  # no codec yet: by the slide vectors alone
    assert codec_fit(model=model, least=1000)
    assert mosaics_code(model=model) == SLIDES
    by_tokens = found()
    assert hidden_in.pk in by_tokens
    # What is alike in the two slides is the focus, and that is what the comparison points to.
    cosines = by_tokens[hidden_in.pk].comparison.cosines
    assert np.unravel_index(cosines.argmax(), cosines.shape) == (5, 5)
