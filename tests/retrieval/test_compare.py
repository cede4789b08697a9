"""Slides side by side: whose, how many, and where they matched."""

import json
from uuid import uuid4

import pytest
from django.urls import reverse

from cases.models import AccessEvent
from cases.permissions import Role
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.search_cast import slides
from tests.retrieval.vectors import axis, between, embed

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(anna, client, lung, image_model):
    client.force_login(anna)
    query_slide, found = slides(lung, image_model, axis(0), between(0, 1, 0.9))
    ReportFactory(case=found.slide.case, diagnosis_line="Adenocarcinoma")
    query = search_run(anna, slide_image=query_slide)
    return query_slide, found, query


def page(client, slide, **query):
    return client.get(reverse("compare", args=[slide.pk]), query)


def matches_of(answer) -> list[dict]:
    start = answer.content.decode().split('id="compare-matches" type="application/json">')[1]
    return json.loads(start.split("</script>")[0])


def test_an_answer_is_compared_at_the_places_that_matched(asked, client):
    query_slide, found, query = asked
    answer = page(client, query_slide, search=query.pk, rank=1)
    assert answer.status_code == 200
    pair = query.hits.get().pairs[0]
    (match,) = matches_of(answer)
    assert match["places"] == {
        str(slide.pk): [pair[side][name] for name in ("x_l0", "y_l0", "size_l0")]
        for slide, side in ((query_slide, "query"), (found, "candidate"))
    }
    assert "Adenocarcinoma" in answer.content.decode()
    seen = AccessEvent.objects.filter(action=AccessEvent.Action.VIEW, object_type="slideimage")
    assert set(seen.values_list("object_id", flat=True)) == {str(query_slide.pk), str(found.pk)}


def test_a_hidden_slide_or_answer_is_not_found(asked, client, image_model):
    query_slide, found, query = asked
    hidden = make_slide_image(DepartmentFactory(code="liver"))
    embed(hidden, image_model, axis(0))
    for other in (hidden.pk, uuid4(), "x"):
        assert page(client, query_slide, **{"with": str(other)}).status_code == 404
    assert page(client, hidden).status_code == 404
    for wrong in ({"search": query.pk, "rank": 2}, {"search": uuid4(), "rank": 1}):
        assert page(client, query_slide, **wrong).status_code == 404
    stranger = make_member(hidden.department, Role.PATHOLOGIST)
    client.force_login(stranger)
    assert page(client, hidden, search=query.pk, rank=1).status_code == 404
    assert client.get(reverse("slide_places", args=[found.pk])).status_code == 404


def test_two_to_four_slides_are_shown_each_once(asked, client, lung):
    query_slide, found, _query = asked
    more = [make_slide_image(lung) for _ in range(3)]
    url = reverse("compare", args=[query_slide.pk])
    four = client.get(url, {"with": [str(s.pk) for s in (found, *more[:2], found, query_slide)]})
    assert four.content.decode().count("data-dzi") == 4
    five = client.get(url, {"with": [str(s.pk) for s in (found, *more)]})
    assert five.status_code == 404


def test_places_are_those_of_the_active_model_most_tissue_first(asked, client, image_model, lung):
    several = make_slide_image(lung)
    embed(several, image_model, axis(0), tokens=[axis(0), axis(1)], shares=[0.25, 0.75])
    answer = client.get(reverse("slide_places", args=[several.pk])).json()["places"]
    assert [(place["token"], place["share"]) for place in answer] == [(1, 0.75), (0, 0.25)]
    image_model.is_active = False
    image_model.save()
    assert client.get(reverse("slide_places", args=[several.pk])).json() == {"places": []}
