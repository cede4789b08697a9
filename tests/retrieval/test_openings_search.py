"""A case that was opened to one user alone may ask, and is never an answer."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.models import Consult, EmergencyAccess
from retrieval.models import SearchQuery
from retrieval.selectors_facets import search_facets
from retrieval.services.search import search_run
from tests.factories import UserFactory
from tests.retrieval.test_search_leaks import (  # noqa: F401
    QUESTIONS,
    anna,
    asked,
    foreign_neighbours,
    lung,
    meaning,
    models,
    page_and_json,
)

pytestmark = pytest.mark.django_db


def open_all(user, images) -> None:
    """Open the case of each of these slides to the user: half by emergency, half for a consult."""
    until = timezone.now() + timedelta(hours=1)
    for number, image in enumerate(images):
        case = image.slide.case
        told = {"department": case.department, "case": case}
        if number % 2:
            EmergencyAccess.objects.create(
                **told, user=user, patient=case.patient, identifier="1",
                reason_code="other", reason="A test.", expires_at=until,
            )  # fmt: skip
        else:
            Consult.objects.create(
                **told, asked_by=UserFactory(), to_user=user, question="What?", until=until
            )
    user.__dict__.pop("_openings", None)


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_answer_changes(name, anna, asked, models, settings, monkeypatch):  # noqa: F811
    settings.ROW_SECURITY = True
    # The bar and the count of consults, on each page, are not the answer.
    monkeypatch.setattr("cases.context_processors._emergencies", lambda user: [])
    monkeypatch.setattr("cases.context_processors._consults", lambda user: 0)
    before = page_and_json(anna, asked, QUESTIONS[name])
    images = foreign_neighbours(models)
    open_all(anna, images)
    client = Client()
    client.force_login(anna)
    assert client.get(reverse("case", args=[images[0].slide.case_id])).status_code == 200
    assert page_and_json(anna, asked, QUESTIONS[name]) == before
    assert search_facets(anna).organs == ["Lung"]


def test_an_opened_slide_asks_and_only_ones_own_answer(anna, asked, models, settings):  # noqa: F811
    settings.ROW_SECURITY = True
    images = foreign_neighbours(models)
    open_all(anna, images)
    client = Client()
    client.force_login(anna)
    answer = client.post(reverse("search_slide", args=[images[0].pk]), follow=True)
    assert answer.status_code == 200
    assert b"Squamous" in answer.content
    query = SearchQuery.objects.get()
    owners = set(query.hits.values_list("department__code", flat=True))
    assert owners == {"lung"}


def test_a_monitor_counts_them_under_row_security(client, anna, asked, models, settings):  # noqa: F811
    settings.ROW_SECURITY, settings.METRICS_TOKEN = True, "monitor"
    open_all(anna, foreign_neighbours(models)[:2])
    EmergencyAccess.objects.filter(user=anna).update(ended_at=timezone.now())
    search_run(anna, slide_image=asked)
    told = client.get(reverse("metrics"), headers={"Authorization": "Bearer monitor"})
    lines = told.content.decode().splitlines()
    assert 'pathsearch_emergency_accesses_unreviewed{department="liver"} 1.0' in lines
    assert not [line for line in lines if line.startswith("pathsearch_emergency_accesses_open{")]
    assert "pathsearch_searches_last_hour 1.0" in lines
