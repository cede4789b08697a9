"""When a case's time of keeping is over, and what speaks against deleting it."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils import timezone

from cases import retention_selectors
from cases.models import (
    BoardItem,
    BoardMeeting,
    Case,
    Consult,
    Department,
    EmergencyAccess,
    LegalHold,
    UploadItem,
)
from cases.permissions import Role
from cases.retention_selectors import years_before
from cases.services import exports, retention
from cases.services.export_projects import export_project_open
from cases.services.retention_run import deletion_run
from tests.factories import (
    CaseFactory,
    DepartmentFactory,
    PatientFactory,
    ReportFactory,
    make_member,
)

pytestmark = pytest.mark.django_db

TODAY = date(2024, 2, 29)


def due_on(day: date) -> set[str]:
    rows = retention_selectors.due_cases(Department.objects.all(), today=day)
    return set(rows.values_list("accession_number", flat=True))


def test_the_same_day_years_earlier():
    assert years_before(TODAY, 10) == date(2014, 2, 28)
    assert years_before(date(2026, 11, 27), 10) == date(2016, 11, 27)


@pytest.mark.parametrize(
    ("received_on", "signed", "is_due"),
    [
        (date(2014, 2, 27), None, True),
        (date(2014, 2, 28), None, False),
        (date(2001, 1, 1), datetime(2014, 2, 27, 12, tzinfo=UTC), True),
        (date(2001, 1, 1), datetime(2014, 3, 1, 12, tzinfo=UTC), False),
        (None, None, False),  # taken in a moment ago
    ],
)
def test_a_case_is_due_the_years_after_receipt_and_the_last_signature(
    keeping, received_on, signed, is_due
):
    case = CaseFactory(department=keeping, received_on=received_on)
    ReportFactory(case=case, signed_at=signed)
    assert due_on(TODAY) == ({case.accession_number} if is_due else set())
    if is_due:
        last = retention_selectors.with_last_day(Case.objects.all()).get().last_on
        assert last == (signed.date() if signed else received_on)


def test_a_department_without_years_keeps_for_ever():
    CaseFactory(department=DepartmentFactory(), received_on=date(1901, 1, 1))
    assert due_on(TODAY) == set()


def test_each_department_has_its_own_years_and_its_own_people(keeping, anna):
    CaseFactory(department=keeping, accession_number="OURS", received_on=date(2010, 1, 1))
    other = DepartmentFactory(retention_years=5)
    CaseFactory(department=other, accession_number="THEIRS", received_on=date(2018, 1, 1))
    assert due_on(TODAY) == {"OURS", "THEIRS"}
    assert {case.accession_number for case in retention_selectors.due_for(anna)} == {"OURS"}
    doctor = make_member(keeping, Role.PATHOLOGIST)
    assert not retention_selectors.due_for(doctor).exists()


def _hold(case, person):
    retention.hold_place(user=person, case=case, reason="A lawsuit")


def _consult(case, person):
    Consult.objects.create(
        case=case,
        department=case.department,
        asked_by=person,
        to_user=person,
        question="What is it?",
        until=timezone.now() + timedelta(days=1),
    )


def _emergency(case, person):
    EmergencyAccess.objects.create(
        user=person,
        department=case.department,
        patient=case.patient,
        identifier="x",
        reason_code="other",
        reason="x",
        expires_at=timezone.now() - timedelta(days=1),
    )


def _board(case, person):
    meeting = BoardMeeting.objects.create(
        department=case.department, title="Lung", held_on=timezone.localdate()
    )
    BoardItem.objects.create(meeting=meeting, case=case, position=1)


def _export(case, person):
    project = export_project_open(user=person, department=case.department, name="Study")
    images = [slide.images.get() for slide in case.slides.all()]
    exports.export_request(user=person, project=project, slide_images=images)


def _unmatched(case, person):
    item = UploadItem.objects.get()
    UploadItem.objects.create(
        department=case.department,
        upload=item.upload,
        name="another",
        key="another",
        state="unmatched",
        facts={"accession_number": case.accession_number},
    )


@pytest.mark.parametrize(
    ("stand_against", "code"),
    [
        (_hold, "legal_hold"),
        (_consult, "consult_open"),
        (_emergency, "emergency_not_reviewed"),
        (_board, "on_a_board"),
        (_export, "export_not_over"),
        (_unmatched, "slides_wait"),
    ],
)
def test_what_stands_against_it_is_named_and_stops_it(
    old_case, anna, ben, delete, stand_against, code
):
    case = old_case()
    deletion = delete(case, run=False)
    # After the approval: the worker asks again.
    stand_against(case, anna)
    assert retention_selectors.obstacle_to(case).code == code
    deletion_run(deletion.pk)
    deletion.refresh_from_db()
    assert (deletion.state, deletion.reason_code) == ("failed", code)
    assert deletion.reason and Case.objects.filter(pk=case.pk).exists()
    # And it is not proposed again while it stands.
    retention.deletion_stop(user=ben, deletion=deletion, comment="Keep")
    done = retention.deletions_propose(user=anna, cases=[case.pk], why="Again, please")
    assert not done.made
    # A held case is not listed at all.
    assert len(done.left) == (0 if code == "legal_hold" else 1)


def test_a_hold_is_lifted_and_the_case_is_due_again(old_case, anna):
    case = old_case()
    hold = retention.hold_place(user=anna, case=case, reason="A lawsuit")
    assert not retention_selectors.due_for(anna).exists()
    with pytest.raises(retention.HoldIsThere):
        retention.hold_place(user=anna, case=case, reason="Another")
    retention.hold_lift(user=anna, hold=hold, reason="Settled")
    assert retention_selectors.due_for(anna).get() == case
    with pytest.raises(retention.AlreadyDecided):
        retention.hold_lift(user=anna, hold=hold, reason="Again")
    assert LegalHold.objects.get().lifted_reason == "Settled"


def test_the_patient_s_other_department_is_another_patient(keeping, old_case, anna):
    case = old_case()
    other = DepartmentFactory()
    PatientFactory(department=other, mrn=case.patient.mrn, mrn_issuer=case.patient.mrn_issuer)
    assert retention_selectors.obstacle_to(case) is None
