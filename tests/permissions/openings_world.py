"""A consult, an emergency access and a region of each place's case, of people who are no actors."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from cases.models import Consult, ConsultOpinion, EmergencyAccess, SlideImage
from cases.permissions import Role
from tests.factories import DepartmentFactory, make_member
from tests.permissions.regions_table import put_region
from tests.permissions.retention_table import RETENTION_KINDS, put_retention
from tests.permissions.terms import intake_of

OPENING_KINDS = frozenset({"consult", "emergency"}) | RETENTION_KINDS


def put_openings(world: Any, place: str, department: Any, image: SlideImage) -> None:
    """Add all three, to a pathologist of a department of their own."""
    put_region(world, place, image)
    case = image.slide.case
    colleague = make_member(DepartmentFactory(code=f"else-{place}"), Role.PATHOLOGIST)
    put_retention(world, place, department, case, colleague)
    until = timezone.now() + timedelta(hours=1)
    consult = Consult.objects.create(
        case=case,
        department=department,
        asked_by=colleague,
        to_user=colleague,
        question=f"Consult-{place}",
        until=until,
    )
    ConsultOpinion.objects.create(consult=consult, author=colleague, text=f"Opinion-{place}")
    emergency = EmergencyAccess.objects.create(
        user=colleague,
        department=department,
        patient=case.patient,
        case=case,
        identifier=f"Emergency-{place}",
        reason_code="other",
        reason=f"Emergency-reason-{place}",
        expires_at=until,
    )
    for kind, row, text in (
        ("consult", consult, consult.question),
        ("emergency", emergency, emergency.reason),
    ):
        world.put(kind, place, row, text, hidden_as=intake_of(place))
