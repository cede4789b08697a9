"""The work list: names with typing errors, saved views, lists too long to count."""

import pytest
from django.urls import reverse

from cases import paging, selectors
from cases.case_text import words_of
from cases.models import AccessEvent, SavedView, Slide
from cases.permissions import Role
from cases.services import saved_views
from tests.factories import (
    CaseFactory,
    DepartmentFactory,
    PatientFactory,
    SlideFactory,
    SpecimenFactory,
)


@pytest.fixture
def reader(cast):
    return cast.client(cast.north, Role.PATHOLOGIST)


def put(department, number, family, given="Berit", mrn="MRN-1"):
    patient = PatientFactory(department=department, family_name=family, given_name=given, mrn=mrn)
    return CaseFactory(patient=patient, department=department, accession_number=number)


@pytest.fixture
def people(cast):
    put(cast.north, "S26-054321", "Tanquill", mrn="MRN-0077123")
    put(cast.north, "S26-060000", "Berg", mrn="MRN-0990000")
    put(cast.north, "S26-070000", "Öztürk", given="Wei", mrn="MRN-0880000")
    put(cast.south, "S26-054322", "Tanquist", mrn="MRN-0077124")


@pytest.mark.parametrize(
    ("text", "first", "is_near"),
    [
        ("Tanquill", "S26-054321", False),
        ("Tanqiull", "S26-054321", True),
        ("tanqull", "S26-054321", True),
        ("Breg", "S26-060000", True),  # swapped letters leave a short name no trigram
        ("Oztürk", "S26-070000", True),
        ("Tanqiull, Berit", "S26-054321", True),
        ("Tanqiull Wei", None, True),
        ("S26-O54321", "S26-054321", True),
        ("S26-054312", "S26-054321", True),
        ("MRN-0O77123", "S26-054321", True),
        ("Zzyxq", None, True),
    ],
)
def test_a_typing_error_finds_the_nearest_within_scope(reader, people, text, first, is_near):
    response = reader.get(reverse("work_list"), {"text": text})
    found = [case.accession_number for case in response.context["page_obj"]]
    assert found[:1] == ([first] if first else [])
    assert "S26-054322" not in found
    assert response.context["is_near"] is is_near
    assert (b"Nothing is written exactly like" in response.content) is (is_near and bool(found))


def test_what_is_written_exactly_is_not_mixed_with_what_is_near(cast, reader, people):
    put(cast.north, "S26-1", "Tanquist", mrn="MRN-5")
    response = reader.get(reverse("work_list"), {"text": "Tanquist"})
    assert [case.accession_number for case in response.context["page_obj"]] == ["S26-1"]


def test_a_sentence_is_no_sixty_look_ups():
    assert words_of("Öztürk, wei\x00 " + "x " * 60) == ["ÖZTÜRK", "WEI", "X", "X", "X", "X"]


def test_near_ones_are_not_taken_into_a_cohort_as_a_whole(reader, people):
    page = reader.get(reverse("work_list"), {"text": "Tanqiull"}).content
    assert b"all_filtered" not in page
    assert b"all_filtered" in reader.get(reverse("work_list"), {"text": "Tanquill"}).content


def test_choices_are_the_values_that_one_sees(cast):
    for department, organ, stain in (
        (cast.north, "Lung", "PAS"),
        (cast.north, "Colon", "H&E"),
        (cast.north, "Lung", "H&E"),
        (cast.north, "", ""),
        (cast.south, "Brain", "Nissl"),
        (cast.south, "Lung", "H&E"),
    ):
        case = CaseFactory(department=department)
        SlideFactory(case=case, specimen=SpecimenFactory(case=case, organ=organ), stain=stain)
    user = cast.client(cast.north, Role.PATHOLOGIST).get("/").wsgi_request.user
    assert selectors.organs_seen(user) == ["Colon", "Lung"]
    assert selectors.stains_seen(user) == ["H&E", "PAS"]
    nobody = cast.client(None, Role.SYSTEM_ADMINISTRATOR).get("/").wsgi_request.user
    assert Slide.objects.exists()
    assert selectors.stains_seen(nobody) == []


def test_a_long_list_is_counted_no_further_than_needed(cast, reader, monkeypatch):
    monkeypatch.setattr(paging, "COUNT_MOST", 30)
    for _ in range(33):
        CaseFactory(department=cast.north)
    response = reader.get(reverse("work_list"), {"page": 99})
    assert response.context["page_obj"].number == 2
    assert b"More than 30 cases" in response.content
    assert len(response.context["page_obj"].object_list) == 5


def test_a_view_keeps_filters_and_order_and_nothing_else(reader, people):
    sent = {"name": " Lung  of mine ", "query": "text=S26&order=patient&page=3&evil=1"}
    answer = reader.post(reverse("view_save"), sent)
    assert answer.url == "/?text=S26&order=patient"
    view = SavedView.objects.get()
    assert (view.name, view.query) == ("Lung of mine", "text=S26&order=patient")
    page = reader.get(answer.url).content.decode()
    assert 'aria-current="page">Lung of mine</a>' in page
    # The same name again replaces it.
    reader.post(reverse("view_save"), {"name": "Lung of mine", "query": "organ=Lung"})
    assert SavedView.objects.get().query == "organ=Lung"
    events = AccessEvent.objects.filter(object_type="savedview").order_by("at")
    assert [event.action for event in events] == ["create", "change"]


def test_a_view_is_its_owners_alone(cast, reader):
    reader.post(reverse("view_save"), {"name": "Mine", "query": ""})
    view = SavedView.objects.get()
    colleague = cast.client(cast.north, Role.PATHOLOGIST)
    assert b"Mine" not in colleague.get(reverse("work_list")).content
    assert colleague.post(reverse("view_delete", args=[view.pk])).status_code == 404
    assert reader.post(reverse("view_delete", args=[view.pk])).status_code == 302
    assert not SavedView.objects.exists()


def test_a_view_has_a_name_and_there_are_not_hundreds(reader, monkeypatch):
    reader.post(reverse("view_save"), {"name": "  ", "query": ""})
    assert not SavedView.objects.exists()
    monkeypatch.setattr(saved_views, "VIEWS_MOST", 1)
    for name in ("First", "Second", "First"):
        reader.post(reverse("view_save"), {"name": name, "query": ""})
    assert [view.name for view in SavedView.objects.all()] == ["First"]


def test_departments_are_the_own_and_those_that_share(cast):
    DepartmentFactory(code="west")
    user = cast.client(cast.north, Role.PATHOLOGIST).get("/").wsgi_request.user
    assert list(selectors.departments_seen(user)) == [cast.north]
