"""More like this, less like this: pure, and through the search, its page and its API."""

import numpy as np
import pytest
from django.core.exceptions import PermissionDenied
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from cases.models import AccessEvent
from cases.permissions import Role
from retrieval.engine.relevance import rocchio_scores, rocchio_vector
from retrieval.models import SearchQuery
from retrieval.selectors import search_results
from retrieval.services.feedback import feedback_give
from retrieval.services.query_mosaics import QueryRefused
from retrieval.services.search import search_refine, search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.search_cast import slides
from tests.retrieval.vectors import axis, between, embed, embed_report

NONE = np.zeros((0, 8), np.float32)


def test_a_query_moves_towards_the_relevant_and_away_from_the_rest():
    moved = rocchio_vector(axis(0), axis(1)[None], axis(2)[None])
    expected = np.array([1.0, 0.75, -0.15])
    assert moved[:3] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert rocchio_vector(axis(0), NONE, NONE) == pytest.approx(axis(0))
    assert rocchio_vector(axis(0), NONE, axis(0)[None], gamma=1.0) == pytest.approx(axis(0))
    with pytest.raises(ValueError, match="width"):
        rocchio_vector(axis(0), np.zeros((1, 3), np.float32), NONE)
    with pytest.raises(ValueError, match="negative"):
        rocchio_vector(axis(0), NONE, NONE, beta=-1)


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4))
def test_scores_order_as_the_moved_vector_does(seed, relevant, irrelevant):
    """A cosine is linear: adding similarities is moving the query."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(1 + relevant + irrelevant + 6, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    query, yes = rows[0], rows[1 : 1 + relevant]
    no, candidates = rows[1 + relevant : 1 + relevant + irrelevant], rows[-6:]
    moved = rocchio_vector(query, yes, no)
    scores = rocchio_scores(
        *(np.asarray(a @ candidates.T, dtype=np.float64) for a in (query, yes, no))
    )
    cosines = candidates @ moved
    assert np.corrcoef(scores, cosines)[0, 1] == pytest.approx(1, abs=1e-3)


@pytest.fixture
def cast(anna, lung, image_model):
    """Return a question with two kinds of answers, nearly equally near."""
    asked, one, other, like_one = slides(
        lung,
        image_model,
        axis(0),
        between(0, 1, 0.6),
        between(0, 2, 0.62),
        between(0, 1, 0.5),
    )
    return {"asked": asked, "one": one, "other": other, "like_one": like_one}


def mark(user, query, slide_image, verdict):
    feedback_give(user=user, hit=query.hits.get(slide_image=slide_image), verdict=verdict)


def order(query, user):
    return [hit.slide_image for hit in search_results(query, user).hits]


@pytest.mark.django_db
def test_marks_move_the_answer_and_the_old_one_stays(anna, cast):
    query = search_run(anna, slide_image=cast["asked"])
    assert order(query, anna) == [cast["other"], cast["one"], cast["like_one"]]
    mark(anna, query, cast["one"], "relevant")
    mark(anna, query, cast["other"], "not_relevant")
    refined = search_refine(anna, query)
    assert order(refined, anna) == [cast["one"], cast["like_one"], cast["other"]]
    assert order(refined, anna) == order(refined, anna)  # stored: pages are stable
    assert order(query, anna)[0] == cast["other"]
    assert refined.refined_from == query
    assert "1 relevant, 1 not relevant" in refined.notices[0]
    # The similarity that is shown stays that of the question.
    hits = {hit.slide_image: hit.image_similarity for hit in refined.hits.all()}
    assert hits == {hit.slide_image: hit.image_similarity for hit in query.hits.all()}


@pytest.mark.django_db
def test_words_are_moved_among_reports(anna, lung, text_model, meaning):
    meaning["zzz"] = axis(0)
    images = [make_slide_image(lung) for _ in range(3)]
    for image, vector in zip(
        images, (between(0, 1, 0.6), between(0, 2, 0.62), between(0, 1, 0.5)), strict=True
    ):
        embed_report(ReportFactory(case=image.slide.case), text_model, vector)
    query = search_run(anna, text="zzz")
    one, other, like_one = images
    assert order(query, anna) == [other, one, like_one]
    mark(anna, query, one, "relevant")
    mark(anna, query, other, "not_relevant")
    assert order(search_refine(anna, query), anna) == [one, like_one, other]


@pytest.mark.django_db
def test_only_ones_own_marks_on_what_one_sees_count(anna, lung, cast, image_model):
    bela = make_member(lung, Role.PATHOLOGIST)
    liver = DepartmentFactory(code="liver")
    vera = make_member(lung, Role.PATHOLOGIST)
    vera.memberships.create(department=liver, role=Role.PATHOLOGIST)
    hidden = make_slide_image(liver)
    embed(hidden, image_model, between(0, 3, 0.7))
    query = search_run(vera, slide_image=cast["asked"])
    mark(bela, query, cast["one"], "relevant")
    with pytest.raises(QueryRefused) as error:
        search_refine(anna, query)
    assert error.value.code == "nothing_marked"
    # A mark on an answer that was visible then, and is hidden now, counts for nothing.
    mark(vera, query, hidden, "relevant")
    mark(vera, query, cast["one"], "relevant")
    mark(anna, query, cast["one"], "relevant")
    vera.memberships.filter(department=liver).delete()
    vera = type(vera).objects.get(pk=vera.pk)
    ours, hers = search_refine(anna, query), search_refine(vera, query)
    assert list(ours.hits.values_list("slide_image", "score")) == list(
        hers.hits.values_list("slide_image", "score")
    )
    assert hidden not in order(hers, vera)
    with pytest.raises(PermissionDenied):
        search_refine(make_member(lung, Role.TECHNICIAN), query)


@pytest.mark.django_db
def test_the_page_and_the_api_refine(anna, cast, client):
    client.force_login(anna)
    query = search_run(anna, slide_image=cast["asked"])
    url = reverse("search_refine", args=[query.pk])
    answers = reverse("search_results", args=[query.pk])
    assert f'action="{url}"' not in client.get(answers).content.decode()
    assert "Nothing is marked" in client.post(url, follow=True).content.decode()
    api = reverse("searches-refine", args=[query.pk])
    assert client.post(api).json()["code"] == "nothing_marked"
    mark(anna, query, cast["one"], "relevant")
    assert f'action="{url}"' in client.get(answers).content.decode()
    moved = client.post(url, follow=True).content.decode()
    assert "Moved by marks" in moved
    answer = client.post(api)
    assert answer.status_code == 201
    assert answer.json()["search"]["refined_from"] == str(query.pk)
    assert answer.json()["hits"][0]["slide_image"] == str(cast["one"].pk)
    assert SearchQuery.objects.filter(refined_from=query).count() == 2
    assert AccessEvent.objects.filter(action=AccessEvent.Action.SEARCH).count() == 3
