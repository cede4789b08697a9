"""Consults: one case for one colleague or department until a date."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.models import AccessEvent, Consult
from cases.permissions import Role
from cases.services.tokens import token_create
from tests.cases.openings.test_emergency import statuses
from tests.factories import CaseFactory, make_member

pytestmark = pytest.mark.django_db


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def asker(cast) -> Client:
    return cast.client(cast.north, Role.PATHOLOGIST)


@pytest.fixture
def expert(cast):
    return make_member(cast.south, Role.PATHOLOGIST, username="expert")


def ask(client, case, **told):
    until = timezone.localdate() + timedelta(days=3)
    told = {"question": "Signet ring cells?", "until": until.isoformat(), **told}
    return client.post(reverse("consult_ask", args=[case.pk]), told, follow=True)


def test_a_colleague_reads_the_case_and_gives_an_opinion(asker, expert, case):
    seen_by = signed_in(expert)
    assert statuses(seen_by, case) == [404] * 5
    assert "can open the case now" in ask(asker, case, username="expert").content.decode()
    assert statuses(seen_by, case) == [200] * 5
    listed = seen_by.get(reverse("consults")).content.decode()
    assert case.accession_number in listed and "Signet ring cells?" in listed
    page = seen_by.get(reverse("case", args=[case.pk])).content.decode()
    assert "Open to you for a consult until" in page
    assert "Emergency access is open" not in page
    consult = Consult.objects.get()
    seen_by.post(reverse("consult_answer", args=[consult.pk]), {"opinion": "Yes, diffuse type."})
    assert "Yes, diffuse type." in asker.get(reverse("case", args=[case.pk])).content.decode()
    events = AccessEvent.objects.filter(object_type="consult")
    assert sorted(event.action for event in events) == ["change", "share"]
    view = AccessEvent.objects.filter(action="view", user=expert, object_type="case").first()
    assert view.detail["opened_by"] == "consult"


def test_a_department_is_asked_but_not_its_researchers(asker, cast, case):
    ask(asker, case, department=cast.south.pk)
    assert statuses(cast.client(cast.south, Role.PATHOLOGIST), case) == [200] * 5
    assert statuses(cast.client(cast.south, Role.TECHNICIAN), case) == [200] * 5
    researcher = cast.client(cast.south, Role.RESEARCHER)
    assert statuses(researcher, case) == [404] * 5
    assert researcher.get(reverse("consults")).status_code == 403


def listed(client, **asked) -> list[str]:
    return [row["question"] for row in client.get("/api/v1/consults/", asked).json()["results"]]


def test_both_lists_by_the_api(asker, expert, cast, case):
    ask(asker, case, username="expert", question="Signet?")
    ask(asker, case, department=cast.south.pk, question="Kind?")
    seen_by = signed_in(expert)
    assert listed(seen_by, asked="of-me", ordering="created_at") == ["Signet?", "Kind?"]
    assert listed(seen_by, asked="by-me") == listed(seen_by, asked="by-us") == []
    assert listed(asker, asked="of-me") == []
    assert listed(asker, asked="by-me", ordering="created_at") == ["Signet?", "Kind?"]
    consult = Consult.objects.get(question="Signet?")
    seen_by.post(reverse("consult_answer", args=[consult.pk]), {"opinion": "Yes."})
    assert listed(asker, answered="true") == ["Signet?"]
    told = asker.get(f"/api/v1/consults/{consult.pk}/").json()
    assert [(one["author"], one["text"]) for one in told["opinions"]] == [("expert", "Yes.")]
    assert (told["to_user"], told["to_department"], told["is_open"]) == ("expert", None, True)
    shown = AccessEvent.objects.filter(user=expert, object_type="consult", action="view")
    assert {event.patient_id for event in shown} == {case.patient_id}
    Consult.objects.update(until=timezone.now() - timedelta(seconds=1))
    assert listed(seen_by) == []
    assert seen_by.get(f"/api/v1/consults/{consult.pk}/").status_code == 404
    assert sorted(listed(asker, open="false", asked="by-us")) == ["Kind?", "Signet?"]


def test_a_token_lists_what_its_department_asked_and_opens_nothing(asker, expert, cast, case):
    ask(asker, case, username="expert")

    def machine(user) -> Client:
        _token, key = token_create(user=user, name="LIS", scopes=["cases:read"])
        return Client(headers={"Authorization": f"Bearer {key}"})

    assert listed(machine(expert)) == []
    assert listed(machine(make_member(cast.north, Role.PATHOLOGIST))) == ["Signet ring cells?"]
    assert machine(expert).get(f"/api/v1/cases/{case.pk}/").status_code == 404


def test_researchers_and_presented_sessions_get_no_consult(asker, expert, cast, case):
    ask(asker, case, username="expert")
    researcher = cast.client(cast.north, Role.RESEARCHER)
    presented = signed_in(expert)
    presented.post(reverse("presentation"), {"on": "1"})
    consult = Consult.objects.get()
    for client in (researcher, presented):
        assert client.get("/api/v1/consults/").status_code == 403
        assert client.get(reverse("consults")).status_code == 403
        answer = client.post(reverse("consult_answer", args=[consult.pk]), {"opinion": "x"})
        assert answer.status_code == 404
    assert presented.get(reverse("case", args=[case.pk])).status_code == 404
    page = researcher.get(reverse("case", args=[case.pk])).content.decode()
    assert "Signet ring cells?" not in page


def test_the_navigation_counts_what_waits(asker, expert, case):
    ask(asker, case, username="expert")
    seen_by = signed_in(expert)
    assert "1 waits for your opinion" in seen_by.get(reverse("cohorts")).content.decode()
    consult = Consult.objects.get()
    seen_by.post(reverse("consult_answer", args=[consult.pk]), {"opinion": "Yes."})
    assert "waits for your opinion" not in seen_by.get(reverse("cohorts")).content.decode()


@pytest.mark.parametrize("how", ["date", "by hand"])
def test_it_ends(asker, expert, case, how):
    ask(asker, case, username="expert")
    consult = Consult.objects.get()
    if how == "date":
        Consult.objects.update(until=timezone.now() - timedelta(seconds=1))
    else:
        asker.post(reverse("consult_end", args=[consult.pk]))
    seen_by = signed_in(expert)
    assert statuses(seen_by, case) == [404] * 5
    assert case.accession_number not in seen_by.get(reverse("consults")).content.decode()
    answer = seen_by.post(reverse("consult_answer", args=[consult.pk]), {"opinion": "Late."})
    assert answer.status_code == 404
    shown = asker.get(reverse("consults"), {"show": "by-us", "state": "over"})
    assert case.accession_number in shown.content.decode()


def test_it_is_in_no_list_and_no_other_case_opens(asker, expert, cast, case):
    second = CaseFactory(department=cast.north, patient=case.patient)
    ask(asker, case, username="expert")
    seen_by = signed_in(expert)
    assert seen_by.get(reverse("case", args=[second.pk])).status_code == 404
    found = seen_by.get(reverse("work_list"), {"text": case.accession_number})
    assert found.context["page_obj"].paginator.count == 0
    assert seen_by.get("/api/v1/cases/").json()["count"] == 0


def test_who_was_asked_can_neither_pass_it_on_nor_end_it(asker, expert, cast, case):
    ask(asker, case, username="expert")
    seen_by, consult = signed_in(expert), Consult.objects.get()
    other = make_member(cast.south, Role.PATHOLOGIST, username="other")
    assert ask(seen_by, case, username="other").status_code == 403
    assert seen_by.post(reverse("consult_end", args=[consult.pk])).status_code == 403
    assert statuses(signed_in(other), case) == [404] * 5
    refused = asker.post(reverse("consult_answer", args=[consult.pk]), {"opinion": "Mine."})
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "Name one colleague or one department"),
        ({"username": "nobody"}, "No colleague"),
        ({"username": "researcher"}, "No colleague"),
        ({"username": "expert", "until": "2020-01-01"}, "Choose a day"),
        ({"username": "expert", "until": "2999-01-01"}, "Choose a day"),
        ({"username": "expert", "question": ""}, "required"),
    ],
)
def test_what_is_wrong_is_said(asker, expert, cast, case, told, said):
    make_member(cast.south, Role.RESEARCHER, username="researcher")
    assert said in ask(asker, case, **told).content.decode()
    assert not Consult.objects.exists()


def test_a_technician_does_not_ask(cast, expert, case):
    assert ask(cast.client(cast.north, Role.TECHNICIAN), case, username="expert").status_code == 403
