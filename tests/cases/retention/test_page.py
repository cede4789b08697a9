"""The pages: proposing, deciding, holds; each from one person to another."""

import pytest
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent, Case, CaseDeletion, LegalHold
from cases.permissions import Role
from cases.services import retention_run
from tests.factories import CaseFactory, make_member

pytestmark = pytest.mark.django_db


def browser_of(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text(response) -> str:
    return response.content.decode()


def test_from_the_list_to_the_tombstone(old_case, anna, ben):
    case = old_case("S01-1")
    first, second = browser_of(anna), browser_of(ben)
    page = text(first.get(reverse("retention")))
    assert "S01-1" in page and "2001-05-06" in page
    address = reverse("retention_propose")
    assert "Tick the cases first" in text(
        first.post(address, {"why": "Over its time"}, follow=True)
    )
    assert "Say in a few words" in text(first.post(address, {"case": case.pk}, follow=True))
    told = {"case": [case.pk, "nonsense"], "why": "Over its time"}
    assert "1 case is proposed" in text(first.post(address, told, follow=True))
    assert "S01-1" not in text(first.get(reverse("retention")))
    assert "S01-1" in text(first.get(reverse("retention"), {"show": "waiting"}))
    deletion = CaseDeletion.objects.get()
    where, decide = (
        reverse("deletion", args=[deletion.pk]),
        reverse("deletion_decide", args=[deletion.pk]),
    )
    assert "somebody else approves" in text(first.get(where))
    assert "Approve the deletion" not in text(first.get(where))
    assert "You proposed it" in text(first.post(decide, {"act": "approve"}, follow=True))
    # The case's page says that it is about to go.
    assert where in text(second.get(reverse("case", args=[case.pk])))
    assert "Approve the deletion" in text(second.get(where))
    assert "A worker deletes it now" in text(second.post(decide, {"act": "approve"}, follow=True))
    retention_run.deletion_run(deletion.pk)
    page = text(second.get(where))
    assert "This page is what stays of the case" in page and "anna" in page and "ben" in page
    assert second.get(reverse("case", args=[case.pk])).status_code == 404
    assert "S01-1" in text(second.get(reverse("retention"), {"show": "done"}))
    assert "decided meanwhile" in text(second.post(decide, {"act": "approve"}, follow=True))
    acts = [
        event.detail["deletion"]
        for event in AccessEvent.objects.filter(detail__has_key="deletion").order_by("at")
    ]
    assert acts == ["proposed", "approved"]


def test_a_hold_is_placed_and_lifted_on_the_case_s_page(old_case, anna):
    case = old_case()
    browser = browser_of(anna)
    place = reverse("hold_place", args=[case.pk])
    assert "Say in a few words" in text(browser.post(place, {"reason": ""}, follow=True))
    page = text(browser.post(place, {"reason": "A lawsuit"}, follow=True))
    assert "Legal hold" in page and "A lawsuit" in page
    assert "on hold already" in text(browser.post(place, {"reason": "Another"}, follow=True))
    assert "A lawsuit" in text(browser.get(reverse("retention"), {"show": "held"}))
    assert case.accession_number not in text(browser.get(reverse("retention")))
    lift = reverse("hold_lift", args=[LegalHold.objects.get().pk])
    assert "The hold is over" in text(browser.post(lift, {"reason": "Settled"}, follow=True))
    assert case.accession_number in text(browser.get(reverse("retention")))


def test_lists_page_sort_and_narrow(keeping, anna, django_assert_max_num_queries):
    for number in range(60):
        CaseFactory(
            department=keeping,
            accession_number=f"OLD-{number:02}",
            received_on=f"2001-01-{1 + number % 28:02}",
        )
    browser = browser_of(anna)
    with django_assert_max_num_queries(60):
        page = text(browser.get(reverse("retention"), {"order": "-number"}))
    assert "OLD-59" in page and "OLD-05" not in page
    assert "OLD-05" in text(browser.get(reverse("retention"), {"order": "-number", "page": 2}))
    page = text(browser.get(reverse("retention"), {"number": "OLD-0"}))
    assert "OLD-05" in page and "OLD-15" not in page
    # One look at the list is on record for each patient on the page.
    assert AccessEvent.objects.filter(detail__page="retention").count() >= 50


def test_nothing_is_due_without_years_and_it_says_so(keeping, anna):
    keeping.retention_years = None
    keeping.save()
    CaseFactory(department=keeping, received_on="1999-01-01")
    assert "No case is ever deleted here" in text(browser_of(anna).get(reverse("retention")))


def test_a_pathologist_is_not_asked(old_case, keeping):
    case = old_case()
    browser = browser_of(make_member(keeping, Role.PATHOLOGIST))
    assert browser.get(reverse("retention")).status_code == 403
    assert "Legal hold" not in text(browser.get(reverse("case", args=[case.pk])))
    assert Case.objects.filter(pk=case.pk).exists()


def test_the_department_s_own_administrator_does_not_set_the_years(keeping, anna):
    anna.is_staff = True
    anna.save()
    browser = browser_of(anna)
    address = reverse("admin:cases_department_change", args=[keeping.pk])
    browser.post(address, {"name": "Lung", "retention_years": 1})
    keeping.refresh_from_db()
    assert keeping.retention_years == 10
