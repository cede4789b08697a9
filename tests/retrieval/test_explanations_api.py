"""Explanations over the API: the parts of stored answers, and the patches of tokens."""

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent, Cohort, CohortEntry
from cases.permissions import Role
from retrieval.engine.mosaic import prototypes
from retrieval.models import SearchHit, SlideEmbedding, SlideIndex
from retrieval.services.features import features_path, features_place, features_prepare
from retrieval.services.indexing import embedding_write
from retrieval.services.query_mosaics import ImagePart
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.vectors import DIMENSION, axis, embed, embed_report, unit

pytestmark = pytest.mark.django_db


def _client(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def _explained(user, query, rank):
    address = reverse("searches-explanation", kwargs={"pk": query.pk, "rank": rank})
    return _client(user).get(address)


def _archive(department, model, count, seed=0):
    rng = np.random.default_rng(seed)
    images = [make_slide_image(department) for _ in range(count)]
    for image in images:
        tokens = np.stack([unit(rng.normal(size=DIMENSION)) for _ in range(3)])
        embed(image, model, unit(rng.normal(size=DIMENSION)), tokens, rng.dirichlet(np.ones(3)))
    return images


def test_the_parts_of_every_hit_add_up_to_its_stored_similarity(anna, lung, image_model):
    asked, *others = _archive(lung, image_model, 6)
    query = search_run(anna, slide_image=asked)
    hits = list(query.hits.order_by("rank"))
    assert len(hits) == len(others)
    for hit in hits:
        answer = _explained(anna, query, hit.rank)
        assert answer.status_code == 200
        body = answer.json()
        assert body["slide_image"] == str(hit.slide_image_id)
        total = body["vector_part"] + sum(m["contribution"] for m in body["matches"])
        assert round(total, 5) == pytest.approx(hit.image_similarity, abs=1.1e-5)
        assert not body["is_outdated"]
        # Both ways: each token of either slide is in a match.
        for side in ("query_token", "candidate_token"):
            assert {m[side] for m in body["matches"]} == {0, 1, 2}
        best = body["matches"][0]
        stored = SlideEmbedding.objects.get(slide_image=hit.slide_image_id)
        assert best["candidate"] == stored.places[best["candidate_token"]]
    looks = AccessEvent.objects.filter(action="view", detail__explanation_of=str(query.pk))
    assert {(look.user, look.patient_id) for look in looks} == {
        (anna, hit.slide_image.slide.case.patient_id) for hit in hits
    }


def test_a_picture_is_explained_at_the_precision_that_ranked(anna, lung, image_model, monkeypatch):
    """The question's tokens are kept as float16; the ranking must not have used more."""
    _archive(lung, image_model, 4)
    rng = np.random.default_rng(9)
    places = np.stack([np.arange(40), np.zeros(40, int)], 1)
    mosaic = prototypes(rng.normal(size=(40, DIMENSION)), places, 1, token_count=4)
    assert (mosaic.tokens != mosaic.tokens.astype(np.float16)).any()
    part = ImagePart(image_model, mosaic, whole_slide=False, image_jpeg=b"x")
    monkeypatch.setattr("retrieval.services.search._image_part", lambda *_: part)
    query = search_run(anna, image=b"picture", image_mpp=0.5)
    for hit in query.hits.all():
        body = _explained(anna, query, hit.rank).json()
        total = body["vector_part"] + body["token_part"]
        assert total == pytest.approx(hit.image_similarity, abs=1e-5)
        # Looked for one way only.
        assert all(m["as_best_of_candidate"] == 0 for m in body["matches"])
        assert body["mosaic_share"] == 0.9


def test_ranks_are_those_that_the_reader_sees(anna, lung, image_model):
    """A colleague of another department sees two of three hits, as ranks 1 and 2."""
    breast = DepartmentFactory(code="breast")
    asked = _archive(lung, image_model, 1)[0]
    others = _archive(lung, image_model, 3, seed=1)
    query = search_run(anna, slide_image=asked)
    cohort = Cohort.objects.create(department=lung, name="shared")
    cohort.shared_with.add(breast)
    shown = {asked, *others[:2]}
    for image in shown:
        CohortEntry.objects.create(cohort=cohort, slide_image=image)
    reader = make_member(breast, Role.PATHOLOGIST)
    seen = [h.slide_image for h in SearchHit.objects.filter(query=query).order_by("rank")
            if h.slide_image in shown]  # fmt: skip
    found = [_explained(reader, query, rank).json()["slide_image"] for rank in (1, 2)]
    assert found == [str(image.pk) for image in seen]
    beyond, none, zero = (_explained(reader, query, rank) for rank in (3, 99, 0))
    assert beyond.status_code == none.status_code == zero.status_code == 404
    assert beyond.content == none.content


def test_an_answer_by_words_alone_has_no_tissue_to_explain(anna, lung, text_model, meaning):
    image = make_slide_image(lung)
    embed_report(ReportFactory(case=image.slide.case, diagnosis_line="gland"), text_model, axis(7))
    query = search_run(anna, text="gland")
    answer = _explained(anna, query, 1)
    assert answer.status_code == 409
    assert answer.json()["code"] == "nothing_to_explain"


def test_a_slide_that_was_indexed_again_is_said_to_be(anna, lung, image_model):
    asked, other = _archive(lung, image_model, 2)
    query = search_run(anna, slide_image=asked)
    SlideEmbedding.objects.filter(slide_image=other).delete()
    assert _explained(anna, query, 1).status_code == 409
    embed(other, image_model, axis(2))
    assert _explained(anna, query, 1).json()["is_outdated"]


@pytest.fixture
def kept(lung, image_model, settings, tmp_path):
    """Return a slide with kept features of three kinds of tissue, and the features."""
    settings.DATA_DIR = tmp_path
    rng = np.random.default_rng(0)
    kinds = 9 * rng.normal(size=(3, DIMENSION))
    features = (kinds[np.arange(60) % 3] + rng.normal(size=(60, DIMENSION))).astype(np.float16)
    places = np.stack([np.arange(60) % 10, np.arange(60) // 10], 1) * 224
    image = make_slide_image(lung)
    mosaic = prototypes(features, places, 224, token_count=image_model.token_count - 1)
    embedding_write(slide_image=image, model=image_model, mosaic=mosaic)
    path = features_path(image.pk, image_model.name)
    features_place(features_prepare(path, features=features, coords_l0=places, size_l0=224), path)
    SlideIndex.objects.create(
        slide_image=image, department=lung, model=image_model, state="indexed", features_path=path
    )
    return image, mosaic


def test_the_patches_of_each_token(anna, kept):
    image, mosaic = kept
    address = reverse("slide-images-attention", kwargs={"pk": image.pk})
    body = _client(anna).get(address).json()
    assert len(body["x_l0"]) == len(body["y_l0"]) == len(body["token"]) == 60
    assert body["size_l0"] == 224
    assert [t["share"] for t in body["tokens"]] == [p["share"] for p in mosaic.places]
    # Patches of one kind are in one token, and another kind in another one.
    by_kind = [{body["token"][at] for at in range(kind, 60, 3)} for kind in range(3)]
    assert sorted(len(tokens) for tokens in by_kind) == [1, 1, 1]
    assert len(set.union(*by_kind)) == 3
    assert "weight" not in body
    one = _client(anna).get(address, {"token": 1}).json()
    assert sum(one["weight"]) == pytest.approx(1, abs=1e-5)
    assert {t for t, w in zip(one["token"], one["weight"], strict=True) if w} == {1}
    event = AccessEvent.objects.filter(action="view", object_id=str(image.pk)).last()
    assert (event.user, event.patient_id) == (anna, image.slide.case.patient_id)


def test_attention_needs_a_token_that_is_there_and_kept_features(anna, lung, image_model, kept):
    image, _ = kept
    address = reverse("slide-images-attention", kwargs={"pk": image.pk})
    assert _client(anna).get(address, {"token": "3"}).status_code == 404
    assert _client(anna).get(address, {"token": "-1"}).status_code == 400
    bare = make_slide_image(lung)
    answer = _client(anna).get(reverse("slide-images-attention", kwargs={"pk": bare.pk}))
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_explain")
    SlideIndex.objects.update(features_path="features/none.safetensors")
    assert _client(anna).get(address).json()["code"] == "features_unreadable"
    stranger = make_member(DepartmentFactory(code="breast"), Role.PATHOLOGIST)
    assert _client(stranger).get(address).status_code == 404
