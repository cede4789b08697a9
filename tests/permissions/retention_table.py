"""The permission table's rows of retention: what is due, proposals, holds; and a row of each."""

from datetime import date
from typing import Any

from cases.models import Case, CaseDeletion, LegalHold
from tests.permissions.row import Row
from tests.permissions.terms import intake_of

RETENTION_KINDS = frozenset({"deletion", "hold"})
_DECIDES: dict[str, Any] = {"roles": "D", "gate": True, "nobody": 403}
_FORM: dict[str, Any] = {"ok": 302, "form": True}

RETENTION = [
    Row("retention", query="show=waiting", lists="deletion", roles="D", nobody=403),
    Row("retention", query="show=held", lists="case", roles="D", nobody=403, variant="held"),
    Row(
        "retention_propose",
        "POST",
        roles="D",
        nobody=403,
        body=lambda world, place: {"case": "", "why": "Over its time"},
        **_FORM,
    ),
    Row("deletion", of="deletion", **_DECIDES),
    Row(
        "deletion_decide",
        "POST",
        of="deletion",
        body=lambda _world, _place: {"act": "decline"},
        **_DECIDES,
        **_FORM,
    ),
    Row(
        "hold_place",
        "POST",
        of="case",
        roles="D",
        partner="denied",
        body=lambda _world, _place: {"reason": "A lawsuit"},
        **_FORM,
    ),
    Row(
        "hold_lift",
        "POST",
        of="hold",
        body=lambda _world, _place: {"reason": "It is over"},
        **_DECIDES,
        **_FORM,
    ),
]


def put_retention(world: Any, place: str, department: Any, case: Case, person: Any) -> None:
    """Add a hold on the case, and the deletion of another one, by a person who is no actor."""
    hold = LegalHold.objects.create(
        department=department, case=case, reason=f"Hold-{place}", placed_by=person
    )
    deletion = CaseDeletion.objects.create(
        department=department,
        case_id=department.cases.model().pk,
        patient_id=case.patient.__class__().pk,
        accession_number=f"Gone-{place}",
        accession_issuer="lis",
        retention_years=10,
        last_on=date(2010, 1, 1),
        why=f"Deletion-{place}",
        requested_by=person,
    )
    for kind, row, texts in (
        ("hold", hold, (hold.reason,)),
        ("deletion", deletion, (deletion.why, deletion.accession_number)),
    ):
        world.put(kind, place, row, *texts, hidden_as=intake_of(place))
