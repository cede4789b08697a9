"""Emergency access: what it opens, to whom, how long, and what it leaves on record."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases.models import AccessEvent, Case, EmergencyAccess, Membership, Patient
from cases.permissions import Role
from cases.services.tokens import token_create
from tests.factories import CaseFactory, make_member, make_slide_image

pytestmark = pytest.mark.django_db

WHY = "The surgeon waits for the frozen section."


@pytest.fixture
def doctor(cast):
    return make_member(cast.south, Role.PATHOLOGIST)


@pytest.fixture
def browser(doctor) -> Client:
    client = Client()
    client.force_login(doctor)
    return client


def ask(client, department, number: str, *, kind: str = "case", reason: str = WHY):
    told = {"department": department.pk, "kind": kind, "number": number, "reason": reason}
    return client.post(reverse("emergency"), {**told, "reason_code": "frozen_section"})


def statuses(client, case) -> list[int]:
    """Return what the pages of the case and its slide answer."""
    image = case.slides.get().images.get()
    tile = {"pk": image.pk, "z_level": 10, "column": 0, "row": 0}
    addresses = [
        reverse("case", args=[case.pk]),
        reverse("slide", args=[image.pk]),
        reverse("slide_dzi", args=[image.pk]),
        reverse("slide_tile", kwargs=tile),
        reverse("slide_thumbnail", args=[image.pk]),
    ]
    return [client.get(address).status_code for address in addresses]


def test_it_opens_the_case_with_its_slides_and_report_until_it_is_ended(browser, cast, case):
    assert statuses(browser, case) == [404] * 5
    opened = ask(browser, cast.north, case.accession_number)
    assert opened["Location"] == reverse("case", args=[case.pk])
    assert statuses(browser, case) == [200] * 5
    page = browser.get(reverse("case", args=[case.pk])).content.decode()
    assert "Signet ring cell carcinoma" in page
    assert case.patient.family_name in page
    assert "Emergency access is open" in page
    assert "Minutes left: <span data-minutes>60</span>" in page
    assert "Emergency access is open" in browser.get(reverse("cohorts")).content.decode()
    access = EmergencyAccess.objects.get()
    browser.post(reverse("emergency_end", args=[access.pk]))
    assert statuses(browser, case) == [404] * 5
    assert "Emergency access is open" not in browser.get(reverse("cohorts")).content.decode()


def test_it_ends_by_the_clock_and_with_the_membership(browser, doctor, cast, case):
    ask(browser, cast.north, case.accession_number)
    EmergencyAccess.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert statuses(browser, case) == [404] * 5
    EmergencyAccess.objects.update(expires_at=timezone.now() + timedelta(minutes=1))
    assert statuses(browser, case) == [200] * 5
    type(doctor).objects.filter(pk=doctor.pk).update(is_active=False)
    assert statuses(browser, case) == [302] * 5
    type(doctor).objects.filter(pk=doctor.pk).update(is_active=True)
    assert statuses(browser, case) == [200] * 5
    Membership.objects.filter(user=doctor).update(role=Role.RESEARCHER)
    assert statuses(browser, case) == [404] * 5


def test_a_browser_keeps_nothing_of_it(browser, cast, case, doctor):
    ask(browser, cast.north, case.accession_number)
    image = case.slides.get().images.get()
    tile = reverse("slide_tile", kwargs={"pk": image.pk, "z_level": 10, "column": 0, "row": 0})
    for address in (tile, reverse("slide_thumbnail", args=[image.pk])):
        assert browser.get(address)["Cache-Control"] == "no-store"
    Membership.objects.create(user=doctor, department=cast.north, role=Role.PATHOLOGIST)
    assert "max-age" in browser.get(tile)["Cache-Control"]


def test_by_the_mrn_it_opens_all_of_that_patient_and_nobody_else(browser, cast, case):
    second = CaseFactory(department=cast.north, patient=case.patient)
    stranger = CaseFactory(department=cast.north)
    ask(browser, cast.north, case.patient.mrn, kind="patient")
    page = browser.get(reverse("emergency")).content.decode()
    assert case.accession_number in page and second.accession_number in page
    assert browser.get(reverse("case", args=[second.pk])).status_code == 200
    assert browser.get(reverse("case", args=[stranger.pk])).status_code == 404
    assert statuses(browser, case) == [200] * 5


def test_one_case_does_not_open_the_others_of_the_patient(browser, cast, case):
    second = CaseFactory(department=cast.north, patient=case.patient)
    ask(browser, cast.north, case.accession_number)
    assert browser.get(reverse("case", args=[second.pk])).status_code == 404


def test_it_is_for_reading_and_in_no_list(browser, cast, case):
    ask(browser, cast.north, case.accession_number)
    image = case.slides.get().images.get()
    assert case.accession_number not in browser.get(reverse("work_list")).content.decode().replace(
        f"to {case.accession_number} until", ""
    )
    found = browser.get(reverse("work_list"), {"text": case.accession_number})
    assert found.context["page_obj"].paginator.count == 0
    assert browser.get("/api/v1/cases/").json()["count"] == 0
    for name in ("slide_label", "slide_export"):
        assert browser.get(reverse(name, args=[image.pk])).status_code == 403, name
    cohort = browser.post(
        reverse("cohort_new"), {"name": "C", "department": cast.south.pk, "slide_image": image.pk}
    )
    assert str(image.pk) not in cohort.content.decode()
    asked = browser.post(reverse("consult_ask", args=[case.pk]), {})
    assert asked.status_code == 403


def test_all_that_is_seen_by_it_is_on_record_as_such(browser, cast, case):
    ask(browser, cast.north, case.accession_number)
    assert statuses(browser, case) == [200] * 5
    access = EmergencyAccess.objects.get()
    opening = AccessEvent.objects.get(action="break_glass")
    assert opening.reason == WHY
    assert (opening.department_id, opening.patient_id) == (cast.north.pk, case.patient_id)
    seen = AccessEvent.objects.filter(action="view", department_id=cast.north.pk)
    assert {event.object_type for event in seen} == {"case", "slideimage"}
    for event in seen:
        assert event.detail["opened_by"] == "emergency"
        assert event.detail["opening"] == str(access.pk)
    own = make_slide_image(cast.south)
    browser.get(reverse("case", args=[own.slide.case_id]))
    assert "opened_by" not in AccessEvent.objects.get(object_id=str(own.slide.case_id)).detail


def test_each_access_has_its_own_record_of_the_slide(browser, cast, case):
    for _ in range(2):
        ask(browser, cast.north, case.accession_number)
        assert statuses(browser, case) == [200] * 5
        browser.post(reverse("emergency_end", args=[EmergencyAccess.objects.first().pk]))
    looks = AccessEvent.objects.filter(action="view", object_type="slideimage")
    assert len({event.detail["opening"] for event in looks}) == len(looks) == 2


def test_a_number_that_nothing_has_is_refused_recorded_and_counted(browser, cast, case):
    for _ in range(10):
        page = ask(browser, cast.north, "S26-no-such").content.decode()
        assert "Nothing has this number" in page
    assert AccessEvent.objects.filter(action="denied", department_id=cast.north.pk).count() == 10
    assert not EmergencyAccess.objects.exists()
    # Then not even a right one: somebody guesses.
    page = ask(browser, cast.north, case.accession_number).content.decode()
    assert "Too many tries" in page
    assert not EmergencyAccess.objects.exists()


@pytest.mark.parametrize(
    "number", ["' OR 1=1", "%", "S26-%", "\\", "S26\x00", " ", "x" * 65, "S26-*"]
)
def test_a_number_is_taken_as_it_is(browser, cast, case, number):
    answer = ask(browser, cast.north, number)
    assert answer.status_code == 200
    assert not EmergencyAccess.objects.exists()


def test_it_asks_for_a_reason_and_who_sits_there(browser, cast, case):
    ask(browser, cast.north, case.accession_number, reason="short")
    assert not EmergencyAccess.objects.exists()
    session = browser.session
    session["authenticated_at"] = 0
    session.save()
    away = ask(browser, cast.north, case.accession_number)
    assert away["Location"].startswith(reverse("confirm_identity"))
    assert not EmergencyAccess.objects.exists()


@pytest.mark.parametrize(
    ("role", "status"),
    [
        (Role.PATHOLOGIST, 200),
        (Role.TECHNICIAN, 200),
        (Role.RESEARCHER, 403),
        (Role.DEPARTMENT_ADMINISTRATOR, 403),
        (Role.AUDITOR, 403),
    ],
)
def test_who_may(cast, role, status):
    assert cast.client(cast.south, role).get(reverse("emergency")).status_code == status


def test_a_token_and_a_presented_session_open_nothing(browser, doctor, cast, case):
    ask(browser, cast.north, case.accession_number)
    _token, key = token_create(user=doctor, name="LIS", scopes=["cases:read"])
    machine = Client(headers={"Authorization": f"Bearer {key}"})
    assert machine.get(f"/api/v1/cases/{case.pk}/").status_code == 404
    browser.post(reverse("presentation"), {"on": "1"})
    assert statuses(browser, case) == [404] * 5


def test_a_colleague_sees_nothing_of_it(browser, cast, case):
    ask(browser, cast.north, case.accession_number)
    colleague = cast.client(cast.south, Role.PATHOLOGIST)
    assert statuses(colleague, case) == [404] * 5
    access = EmergencyAccess.objects.get()
    assert colleague.post(reverse("emergency_end", args=[access.pk])).status_code == 404
    assert EmergencyAccess.objects.open().exists()


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.DEPARTMENT_ADMINISTRATOR])
def test_the_department_reviews_it_once(browser, doctor, cast, case, role):
    ask(browser, cast.north, case.accession_number)
    assert statuses(browser, case) == [200] * 5
    access = EmergencyAccess.objects.get()
    officer = cast.client(cast.north, role)
    waiting = officer.get(reverse("emergency_reviews")).content.decode()
    assert doctor.get_full_name() in waiting
    assert "1 waits for review" in waiting
    page = reverse("emergency_review", args=[access.pk])
    shown = officer.get(page).content.decode()
    assert "The surgeon waits" in shown
    events = officer.get(page).context["events"]
    assert [event.object_type for event in events] == ["emergencyaccess", "case", "slideimage"]
    # Who may see the case reads its number; an auditor sees no case.
    assert (events[1].named == case.accession_number) == (role != Role.AUDITOR)
    early = officer.post(page, {"outcome": "justified"}, follow=True).content.decode()
    assert "It is still open" in early
    assert not EmergencyAccess.objects.exclude(outcome="").exists()
    officer.post(reverse("emergency_end", args=[access.pk]))
    assert statuses(browser, case) == [404] * 5
    refused = officer.post(page, {"outcome": "not_justified"})
    assert "Say why" in refused.content.decode()
    officer.post(page, {"outcome": "justified", "comment": "Called us first."})
    access.refresh_from_db()
    assert (access.outcome, access.review_comment) == ("justified", "Called us first.")
    again = officer.post(page, {"outcome": "not_justified", "comment": "No."}, follow=True)
    assert "reviewed already" in again.content.decode()
    assert "Nothing to review" in officer.get(reverse("emergency_reviews")).content.decode()
    assert (
        str(access.pk)
        in officer.get(reverse("emergency_reviews"), {"show": "all"}).content.decode()
    )


def test_the_queue_is_narrowed_and_ordered(cast):
    people = {name: make_member(cast.south, Role.PATHOLOGIST, username=name) for name in "abc"}
    past, later = (timezone.now() + timedelta(hours=hours) for hours in (-1, 1))
    for name, reason, until, outcome in (
        ("a", "other", later, ""),
        ("b", "cover", past, ""),
        ("c", "other", past, "justified"),
    ):
        found = CaseFactory(department=cast.north)
        reviewed = {"outcome": outcome, "reviewed_at": past, "reviewed_by": people["a"]}
        EmergencyAccess.objects.create(
            user=people[name], department=cast.north, patient=found.patient, case=found,
            identifier="1", reason_code=reason, reason=WHY, expires_at=until,
            **(reviewed if outcome else {}),
        )  # fmt: skip
    officer = cast.client(cast.north, Role.AUDITOR)

    def listed(**asked) -> str:
        page = officer.get(reverse("emergency_reviews"), {"order": "who", **asked})
        return "".join(access.user.username for access in page.context["page_obj"])

    assert listed() == "ab"
    assert listed(show="all", order="-who") == "cba"
    assert (listed(show="open"), listed(show="justified"), listed(show="nonsense")) == (
        "a", "c", "ab",
    )  # fmt: skip
    assert listed(show="all", reason="other") == "ac"
    assert listed(show="all", who="B") == "b"
    assert listed(show="all", department=cast.north.pk) == "abc"
    # Another department narrows nothing: the reviewer has no such choice.
    assert listed(show="all", department=cast.south.pk) == "abc"


def test_nobody_reviews_their_own_nor_those_of_other_departments(browser, doctor, cast, case):
    ask(browser, cast.north, case.accession_number)
    access = EmergencyAccess.objects.get()
    page = reverse("emergency_review", args=[access.pk])
    assert cast.client(cast.south, Role.AUDITOR).get(page).status_code == 404
    Membership.objects.create(user=doctor, department=cast.north, role=Role.AUDITOR)
    assert browser.get(page).status_code == 404
    assert browser.post(page, {"outcome": "justified"}).status_code == 404


def test_ones_own_department_needs_no_emergency(browser, cast):
    own = CaseFactory(department=cast.south)
    ask(browser, cast.south, own.accession_number)
    assert not EmergencyAccess.objects.exists()


@pytest.mark.parametrize("kind", ["case", "patient"])
def test_a_number_of_two_issuers_is_the_departments_own(browser, cast, case, kind):
    wanted = CaseFactory(department=cast.north)
    for row, issuer in ((case, "elsewhere"), (wanted, "north-itself")):
        Patient.objects.filter(pk=row.patient_id).update(mrn="M-1", mrn_issuer=issuer)
        Case.objects.filter(pk=row.pk).update(accession_number="A-1", accession_issuer=issuer)
    cast.north.mrn_issuer = cast.north.accession_issuer = "north-itself"
    cast.north.save()
    ask(browser, cast.north, "M-1" if kind == "patient" else "A-1", kind=kind)
    assert EmergencyAccess.objects.get().patient_id == wanted.patient_id
    assert browser.get(reverse("case", args=[wanted.pk])).status_code == 200
    assert statuses(browser, case) == [404] * 5
