"""What was deleted by the retention policy does not come back by a late message or file."""

from django.utils.translation import gettext_lazy as _

from cases.errors import Conflict
from cases.models import CaseDeletion, Department
from cases.row_scope import acting_for_system


class CaseWasDeleted(Conflict):
    """The accession number is of a case that was deleted when its time of keeping was over."""

    code = "case_was_deleted"
    message = _(
        "The case of this accession number was deleted when its time of keeping was over."
        " Nothing more is taken in for it."
    )


def was_deleted(department: Department, accession_issuer: str, accession_number: str) -> bool:
    """Return whether this number's case was deleted."""
    if not accession_number:
        return False
    # Who sends a message decides nothing about retention, and so does not see its rows.
    with acting_for_system("whether the number was deleted"):
        return CaseDeletion.objects.filter(
            department=department,
            accession_issuer=accession_issuer,
            accession_number=accession_number,
            rows_deleted_at__isnull=False,
        ).exists()


def refuse_deleted(department: Department, accession_issuer: str, accession_number: str) -> None:
    """Raise CaseWasDeleted where this number's case was deleted."""
    if was_deleted(department, accession_issuer, accession_number):
        raise CaseWasDeleted
