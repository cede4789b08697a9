"""Saved searches: asked again when something new comes, in the owner's scope, told once."""

import numpy as np
import pytest
from django.urls import reverse

from cases.models import AccessEvent, Cohort, CohortEntry
from cases.permissions import Role
from retrieval.models import SavedSearch, SearchQuery
from retrieval.selectors import new_matches_of
from retrieval.services import saved_searches as service
from retrieval.services.search import search_run
from retrieval.tasks import saved_search_task
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.vectors import axis, between, embed, make_model

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signed_in")]


@pytest.fixture(autouse=True)
def meaning(monkeypatch):
    monkeypatch.setattr(
        "retrieval.services.text_search.encode_texts", lambda model, texts: np.stack([axis(0)])
    )


@pytest.fixture
def saved(client, anna, lung, image_model):
    """Return anna's saved search by a slide, which one other slide answers."""
    add(lung, image_model, 0.6)
    asked = make_slide_image(lung)
    embed(asked, image_model, axis(0))
    query = search_run(anna, slide_image=asked)
    answer = client.post(reverse("saved_search_new", args=[query.pk]), {"name": " Kept  one "})
    assert answer.url == reverse("search_results", args=[query.pk])
    return SavedSearch.objects.get()


def add(department, image_model, share):
    image = make_slide_image(department)
    embed(image, image_model, between(0, 1, share))
    return image


def test_something_new_is_told_once(client, anna, lung, image_model, saved):
    assert saved.name == "Kept one"
    assert saved_search_task() == 0
    new = add(lung, image_model, 0.9)
    assert saved_search_task() == 1
    saved.refresh_from_db()
    assert saved.fresh == [new.pk]
    assert new_matches_of(anna) == 1
    assert saved_search_task() == 0
    assert b"Saved searches: 1 new slide" in client.get(reverse("work_list")).content
    assert b"Show 1 new slide" in client.get(reverse("saved_searches")).content
    answer = client.post(reverse("saved_search_open", args=[saved.pk]), follow=True)
    page = answer.content.decode()
    assert page.count(">New</span>") == 1
    assert str(new.pk) in page
    assert new_matches_of(anna) == 0
    assert b"new slide" not in client.get(reverse("work_list")).content


def test_nothing_is_asked_while_nothing_is_new_and_nothing_is_kept_of_it(
    anna, lung, image_model, saved
):
    before = SearchQuery.objects.count()
    asked = AccessEvent.objects.filter(action="search").count()
    assert saved_search_task() == 0
    assert AccessEvent.objects.filter(action="search").count() == asked
    ReportFactory(case=make_slide_image(lung).slide.case)  # new, but no answer to it
    assert saved_search_task() == 0
    assert AccessEvent.objects.filter(action="search").count() == asked + 1
    assert AccessEvent.objects.filter(action="search").first().user == anna
    assert SearchQuery.objects.count() == before


def test_what_the_owner_does_not_see_tells_nothing(anna, image_model, saved):
    liver = DepartmentFactory(code="liver")
    hidden = add(liver, image_model, 0.95)
    assert saved_search_task() == 0
    cohort = Cohort.objects.create(department=liver, name="Shared")
    CohortEntry.objects.create(cohort=cohort, slide_image=hidden)
    cohort.shared_with.add(anna.memberships.get().department)
    later = add(liver, image_model, 0.9)
    CohortEntry.objects.create(cohort=cohort, slide_image=later)
    assert saved_search_task() == 1
    saved.refresh_from_db()
    assert later.pk in saved.fresh


def test_who_lost_the_rights_is_told_nothing(anna, lung, image_model, saved):
    add(lung, image_model, 0.9)
    anna.memberships.all().delete()
    assert saved_search_task() == 0
    saved.refresh_from_db()
    assert saved.answer is None


def test_only_the_best_answers_count(anna, lung, image_model, saved, monkeypatch):
    monkeypatch.setattr(service, "TOP", 1)
    add(lung, image_model, 0.3)
    assert saved_search_task() == 0
    add(lung, image_model, 0.9)
    assert saved_search_task() == 1


def test_a_new_report_answers_words(client, anna, lung):
    make_model("text")
    query = search_run(anna, text="thymoma")
    client.post(reverse("saved_search_new", args=[query.pk]), {"name": "Thymomas"})
    image = make_slide_image(lung)
    ReportFactory(case=image.slide.case, diagnosis_line="Thymoma, type B2")
    assert saved_search_task() == 1
    assert SavedSearch.objects.get().fresh == [image.pk]


def test_what_the_site_asked_is_not_in_ones_history(client, anna, lung, image_model, saved):
    add(lung, image_model, 0.9)
    saved_search_task()
    answer = SavedSearch.objects.get().answer
    assert answer.is_automatic
    assert str(answer.pk) not in client.get(reverse("searches")).content.decode()


def test_a_saved_search_is_its_owners_alone(client, anna, lung, saved):
    client.force_login(make_member(lung, Role.PATHOLOGIST))
    assert b"Kept one" not in client.get(reverse("saved_searches")).content
    for name in ("saved_search_open", "saved_search_remove"):
        assert client.post(reverse(name, args=[saved.pk])).status_code == 404
    client.force_login(anna)
    assert client.post(reverse("saved_search_remove", args=[saved.pk])).status_code == 302
    assert not SavedSearch.objects.exists()


def test_names_are_given_once_and_there_are_not_hundreds(client, anna, saved, monkeypatch):
    address = reverse("saved_search_new", args=[saved.query_id])
    for name in ("Kept one", " "):
        client.post(address, {"name": name})
    monkeypatch.setattr(service, "SAVED_MOST", 1)
    client.post(address, {"name": "Another"})
    assert SavedSearch.objects.count() == 1


def test_one_that_cannot_be_asked_does_not_stop_the_others(
    anna, lung, image_model, saved, monkeypatch
):
    other = SavedSearch.objects.create(
        user=anna, name="Broken", query=saved.query, checked_at=saved.query.created_at
    )
    run = service.search_again
    calls = []

    def sometimes(user, query):
        calls.append(1)
        if len(calls) == 1:
            raise service.SavedNameTaken  # any error that people can act on
        return run(user, query)

    monkeypatch.setattr(service, "search_again", sometimes)
    add(lung, image_model, 0.9)
    assert saved_search_task() == 1
    assert len(calls) == 2
    assert other.pk
