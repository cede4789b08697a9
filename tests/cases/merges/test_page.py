"""The page on which two numbers are merged and separated."""

import pytest
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent, Case, PatientMerge
from cases.permissions import Role
from cases.row_scope import acting_for_system
from tests.factories import make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def browser(site) -> Client:
    client = Client()
    client.force_login(site.admin)
    return client


def address(patient, act: str = "patient_numbers") -> str:
    return reverse(act, args=[patient.pk])


def owners() -> set[tuple[str, str]]:
    with acting_for_system("to look"):
        return set(Case.objects.values_list("accession_number", "patient__mrn"))


@pytest.mark.parametrize(("stays", "mrn"), [("this", "A1"), ("other", "B2")])
def test_look_merge_and_undo(site, browser, stays, mrn):
    assert "Merge the two" not in browser.get(address(site.a)).content.decode()
    page = browser.get(address(site.a), {"mrn": "B2"}).content.decode()
    assert "Merge the two" in page and site.b.full_name in page
    told = {"other": site.b.pk, "stays": stays, "reason": "Same passport"}
    done = browser.post(address(site.a), told, follow=True)
    assert owners() == {("S-A", mrn), ("S-B", mrn)}
    page = done.content.decode()
    assert "Same passport" in page and "Cases moved: 1" in page
    with acting_for_system("to look"):
        merge = PatientMerge.objects.get()
    # The page of the number that was given up leads to the one in use.
    assert browser.get(address(merge.merged))["Location"] == address(merge.survivor)
    undone = browser.post(
        address(merge.merged, "patient_unmerge"), {"reason": "Twins"}, follow=True
    )
    assert owners() == {("S-A", "A1"), ("S-B", "B2")}
    assert "Twins" in undone.content.decode()
    assert "1 case is back with it." in undone.content.decode()


def test_who_differs_is_said_and_both_looks_are_on_record(site, browser):
    with acting_for_system("another birth date"):
        site.a.birth_date, site.b.birth_date = "1960-01-01", "1961-01-01"
        site.a.save()
        site.b.save()
    page = browser.get(address(site.a), {"mrn": "B2"}).content.decode()
    assert "They differ in: birth date." in page
    seen = AccessEvent.objects.filter(detail__page="patient numbers", user=site.admin)
    assert {event.patient_id for event in seen} == {site.a.pk, site.b.pk}


def test_what_cannot_be_is_said(site, browser):
    told = {"other": site.a.pk, "stays": "this", "reason": "Same passport"}
    assert "The two are the same patient" in browser.post(address(site.a), told).content.decode()
    without = {"other": site.b.pk, "stays": "this", "reason": ""}
    assert "Nothing was merged." in browser.post(address(site.a), without).content.decode()
    hidden = browser.post(address(site.a), {**told, "other": site.foreign.pk})
    assert hidden.status_code == 404
    refused = browser.post(address(site.b, "patient_unmerge"), {"reason": "Twins"}, follow=True)
    assert "is not merged into another" in refused.content.decode()
    assert owners() == {("S-A", "A1"), ("S-B", "B2")}


def test_it_asks_who_sits_there(site, browser, settings):
    settings.REAUTHENTICATION_MINUTES = 0
    session = browser.session
    session["authenticated_at"] = 1
    session.save()
    told = {"other": site.b.pk, "stays": "this", "reason": "Same passport"}
    for answer in (browser.get(address(site.a)), browser.post(address(site.a), told)):
        assert answer["Location"].startswith(reverse("confirm_identity"))
    assert owners() == {("S-A", "A1"), ("S-B", "B2")}


def test_the_case_offers_it_to_who_may(site, browser):
    case = reverse("case", args=[site.case_a.pk])
    assert address(site.a) in browser.get(case).content.decode()
    pathologist = Client()
    pathologist.force_login(make_member(site.north, Role.PATHOLOGIST))
    assert address(site.a) not in pathologist.get(case).content.decode()
    assert pathologist.get(address(site.a)).status_code == 403
