"""Reads of the history: what a case's rows were before, field by field."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Q, QuerySet

from cases import permissions
from cases.models import Case, ClinicalChange

KINDS = ("patient", "case", "specimen", "block", "slide", "slideimage", "report")


@dataclass(frozen=True)
class FieldChange:
    """One field of a changed row, as a page shows it; `after` is None of a removed row."""

    name: str
    before: str
    after: str | None


def history_of_case(user: Any, case: Case, kind: str = "") -> QuerySet[ClinicalChange]:
    """Return what was changed of the case, its parts and its patient, newest first."""
    permissions.require(user, "read_history", case.department_id)
    of_patient = Q(object_type="patient", object_id=case.patient_id)
    rows = ClinicalChange.objects.visible_to(user).filter(Q(case_id=case.pk) | of_patient)
    if kind in KINDS:
        rows = rows.filter(object_type=kind)
    return rows.select_related("user").order_by("-at", "-id")


def field_changes(change: ClinicalChange) -> Iterator[FieldChange]:
    """Yield the fields that a change touched, with the names that people read."""
    model = apps.get_model("cases", change.object_type)
    is_removed = change.operation == ClinicalChange.Operation.DELETE
    for name in sorted(change.before):
        before, after = change.before[name], change.after.get(name)
        if is_removed and before in ("", None):
            continue
        yield FieldChange(
            _label(model, name),
            _shown(model, name, before),
            None if is_removed else _shown(model, name, after),
        )


def _field(model: Any, name: str) -> Any:
    try:
        return model._meta.get_field(name.removesuffix("_id"))
    except FieldDoesNotExist:
        return None


def _label(model: Any, name: str) -> str:
    field = _field(model, name)
    return str(field.verbose_name) if field is not None else name


def _shown(model: Any, name: str, value: Any) -> str:
    if value is None or value == "":
        return ""
    choices = dict(getattr(_field(model, name), "flatchoices", ()))
    return str(choices.get(value, value))
