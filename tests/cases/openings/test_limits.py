"""How often somebody may try, and what happens at the same moment or at the last one."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.errors import Conflict, DomainError
from cases.models import AccessEvent, Consult, ConsultOpinion, EmergencyAccess
from cases.permissions import Role
from cases.services import consults, emergency
from tests.cases.openings.test_locks import consult
from tests.cases.openings.test_locks import emergency as opened
from tests.factories import CaseFactory, DepartmentFactory, make_member

pytestmark = pytest.mark.django_db(transaction=True)
JUSTIFIED = {"outcome": "justified", "comment": ""}


@pytest.fixture
def north():
    return DepartmentFactory(code="north")


@pytest.fixture
def doctor(north):
    return make_member(DepartmentFactory(code="south"), Role.PATHOLOGIST)


def told(user, department, number: str) -> dict:
    return {
        "user": type(user).objects.get(pk=user.pk),
        "department": department,
        "kind": emergency.CASE,
        "number": number,
        "reason_code": "other",
        "reason": "The surgeon waits.",
    }


def code_of(act, *args, **kwargs) -> str:
    try:
        act(*args, **kwargs)
    except DomainError as error:
        return error.code
    return "done"


def at_once(*acts) -> list[str]:
    """Run them at the same moment; return the codes of what they say."""
    start = Barrier(len(acts))

    def run(act) -> str:
        start.wait()
        try:
            return code_of(act)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(acts)) as pool:
        return sorted(pool.map(run, acts))


def test_guesses_at_once_are_counted_one_by_one(doctor, north):
    for _ in range(emergency.MISSES_MOST - 1):
        assert code_of(emergency.emergency_open, **told(doctor, north, "no")) == "nothing_found"
    guesses = [lambda: emergency.emergency_open(**told(doctor, north, "no")) for _ in range(4)]
    assert at_once(*guesses) == ["nothing_found", *["too_many_tries"] * 3]
    # Those that were not looked up are on record, too.
    assert AccessEvent.objects.filter(action="denied").count() == emergency.MISSES_MOST + 3


def test_nobody_opens_one_case_after_the_other(doctor, north):
    number = CaseFactory(department=north).accession_number
    for _ in range(emergency.OPENED_MOST):
        emergency.emergency_open(**told(doctor, north, number))
    assert code_of(emergency.emergency_open, **told(doctor, north, number)) == "too_many_tries"
    assert EmergencyAccess.objects.count() == emergency.OPENED_MOST
    EmergencyAccess.objects.update(created_at=timezone.now() - emergency.OPENED_WITHIN)
    assert code_of(emergency.emergency_open, **told(doctor, north, number)) == "done"


def test_the_department_is_told_in_the_log_without_names(doctor, north, caplog):
    case = CaseFactory(department=north)
    access = emergency.emergency_open(**told(doctor, north, case.accession_number))
    (line,) = [record.getMessage() for record in caplog.records if "emergency" in record.name]
    assert str(access.pk) in line and "north" in line
    assert case.accession_number not in line


def test_the_clock_ends_it_between_two_requests(doctor, north):
    case = CaseFactory(department=north)
    access = opened(doctor, case)
    browser = Client()
    browser.force_login(doctor)
    page = reverse("case", args=[case.pk])
    assert browser.get(page).status_code == 200
    EmergencyAccess.objects.update(expires_at=timezone.now())
    assert browser.get(page).status_code == 404
    # Ending what is over writes nothing.
    emergency.emergency_end(user=doctor, access=access)
    assert EmergencyAccess.objects.get().ended_at is None
    assert not AccessEvent.objects.filter(object_type="emergencyaccess").exists()


def test_two_reviews_at_once_keep_one(doctor, north):
    access = opened(doctor, CaseFactory(department=north))
    EmergencyAccess.objects.update(ended_at=timezone.now())
    officers = [make_member(north, role) for role in (Role.AUDITOR, Role.DEPARTMENT_ADMINISTRATOR)]
    reviews = [
        partial(emergency.emergency_review, user=user, access=access, **JUSTIFIED)
        for user in officers
    ]
    assert at_once(*reviews) == ["conflict", "done"]


def test_an_opinion_that_comes_as_the_consult_ends_is_not_kept(doctor, north, monkeypatch):
    asked = consult(CaseFactory(department=north), to_user=doctor)

    class Checked:
        """Ends the consult after who asks was checked, before the opinion is written."""

        def filter(self, **_pk):
            return self

        def exists(self) -> bool:
            Consult.objects.update(until=timezone.now() - timedelta(seconds=1))
            return True

    monkeypatch.setattr("cases.querysets.ConsultQuerySet.asked_of", lambda *_: Checked())
    with pytest.raises(Conflict):
        consults.consult_answer(user=doctor, consult=asked, opinion="Late.")
    assert not ConsultOpinion.objects.exists()


def test_two_of_a_department_that_was_asked_keep_both_opinions(north):
    case = CaseFactory(department=north)
    south = DepartmentFactory(code="south")
    asked = consult(case, to_department=south)
    for text in ("Reactive.", "Carcinoma in situ."):
        member = make_member(south, Role.PATHOLOGIST)
        consults.consult_answer(user=member, consult=asked, opinion=text)
    browser = Client()
    browser.force_login(make_member(north, Role.PATHOLOGIST))
    page = browser.get(reverse("case", args=[case.pk])).content.decode()
    assert page.index("Reactive.") < page.index("Carcinoma in situ.")
