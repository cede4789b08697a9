"""Which patient a number means, where numbers were merged.

`Patient.merged_into` leads from each merged row straight to the one that is used, however many
merges lie between; `PatientMerge` says which these were.
"""

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce

from cases.models import Patient

# Of a row: the id of the patient that its number means now.
IN_USE = Coalesce("merged_into_id", "pk")


def patient_in_use(patient: Patient) -> Patient:
    """Return the patient that the row's number means now."""
    return patient.merged_into if patient.merged_into_id else patient


def ids_in_use(patients: QuerySet[Patient]) -> QuerySet[Any]:
    """Return the ids of the patients that these rows' numbers mean now, for an IN."""
    return patients.order_by().annotate(in_use=IN_USE).values_list("in_use", flat=True)


def ids_of_same(patients: QuerySet[Patient]) -> list[UUID]:
    """Return the ids of all rows of these people: those in use and those merged into them."""
    in_use = list(ids_in_use(patients))
    same = Patient.objects.filter(Q(pk__in=in_use) | Q(merged_into__in=in_use))
    return list(same.values_list("pk", flat=True))


def row_of_number(patient: Patient, mrn: str, issuer: str) -> Patient:
    """Return the row of this number where it was merged into the patient, else the patient."""
    if not mrn or (mrn, issuer) == (patient.mrn, patient.mrn_issuer):
        return patient
    earlier = patient.merged_rows.filter(mrn=mrn, mrn_issuer=issuer).first()
    return patient if earlier is None else earlier
