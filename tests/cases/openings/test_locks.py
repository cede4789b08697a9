"""The second lock: of another department the database has what was opened, while it is open."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from cases import row_scope
from cases.models import (
    Case,
    Consult,
    ConsultOpinion,
    EmergencyAccess,
    Patient,
    Report,
    Slide,
    SlideImage,
    Specimen,
)
from cases.permissions import Role
from cases.querysets import VisibleQuerySet
from tests.factories import ReportFactory, UserFactory, make_member, make_slide_image

pytestmark = pytest.mark.django_db

_PARTS = (Patient, Case, Specimen, Slide, SlideImage, Report)


@pytest.fixture
def doctor(cast):
    return make_member(cast.south, Role.PATHOLOGIST)


@pytest.fixture
def other(cast):
    """Return a case of the north that stays closed, with all that a case has."""
    found = make_slide_image(cast.north).slide.case
    ReportFactory(case=found)
    return found


def emergency(user, case, *, whole_patient: bool = False) -> EmergencyAccess:
    return EmergencyAccess.objects.create(
        user=user, department=case.department, patient=case.patient,
        case=None if whole_patient else case, identifier="1", reason_code="other",
        reason="A test.", expires_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip


def consult(case, **to) -> Consult:
    until = timezone.now() + timedelta(hours=1)
    return Consult.objects.create(
        case=case, department=case.department, asked_by=UserFactory(), question="?",
        until=until, **to,
    )  # fmt: skip


def rows_of(user) -> dict[str, int]:
    """Return how many rows of each kind the database gives this user without `visible_to`."""
    with row_scope.acting_for_user(type(user).objects.get(pk=user.pk)):
        return {model._meta.model_name: model.objects.count() for model in _PARTS}


NONE = dict.fromkeys((model._meta.model_name for model in _PARTS), 0)
ONE_EACH = dict.fromkeys(NONE, 1)


@pytest.mark.parametrize("how", ["case", "patient", "consult", "department"])
def test_the_database_gives_the_opened_case_and_no_other(doctor, cast, case, other, how):
    assert rows_of(doctor) == NONE
    opening = {
        "case": lambda: emergency(doctor, case),
        "patient": lambda: emergency(doctor, case, whole_patient=True),
        "consult": lambda: consult(case, to_user=doctor),
        "department": lambda: consult(case, to_department=cast.south),
    }[how]()
    assert rows_of(doctor) == ONE_EACH
    with row_scope.acting_for_user(type(doctor).objects.get(pk=doctor.pk)):
        assert Case.objects.get() == case
    researcher = make_member(cast.south, Role.RESEARCHER)
    assert rows_of(researcher) == NONE
    ends = "expires_at" if isinstance(opening, EmergencyAccess) else "until"
    type(opening).objects.update(**{ends: timezone.now() - timedelta(seconds=1)})
    assert rows_of(doctor) == NONE


@pytest.fixture
def forgetful(monkeypatch):
    """Take both doors away from every queryset."""
    kinds = [VisibleQuerySet]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        for door in ("visible_to", "readable_by"):
            if door in vars(kind):
                monkeypatch.setattr(kind, door, lambda rows, user: rows.all())


def test_a_view_that_forgets_both_doors_opens_only_what_is_open(doctor, case, other, forgetful):
    access = emergency(doctor, case)
    browser = Client()
    browser.force_login(doctor)
    status = {
        found: browser.get(reverse("case", args=[found.pk])).status_code for found in (case, other)
    }
    assert status == {case: 200, other: 404}
    EmergencyAccess.objects.filter(pk=access.pk).update(ended_at=timezone.now())
    assert browser.get(reverse("case", args=[case.pk])).status_code == 404


def test_who_sees_the_rows_that_open(doctor, cast, case, other):
    emergency(doctor, case)
    ConsultOpinion.objects.create(
        consult=consult(other, to_user=doctor), author=doctor, text="Reactive."
    )

    def seen(user) -> list[int]:
        with row_scope.acting_for_user(user):
            kinds = (EmergencyAccess, Consult, ConsultOpinion)
            return [kind.objects.count() for kind in kinds]

    assert seen(doctor) == [1, 1, 1]
    assert seen(make_member(cast.south, Role.PATHOLOGIST)) == [0, 0, 0]
    assert seen(make_member(cast.south, Role.AUDITOR)) == [0, 0, 0]
    assert seen(make_member(cast.north, Role.PATHOLOGIST)) == [0, 1, 1]
    assert seen(make_member(cast.north, Role.AUDITOR)) == [1, 0, 0]
