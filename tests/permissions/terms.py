"""The own terms of the world's departments."""

from typing import Any

from retrieval.models import DepartmentTerm


def intake_of(place: str) -> str:
    """Return what the place is called by what no cohort opens: that betrays itself alone."""
    return place if place == "foreign" else f"{place} intake"


def add_term(world: Any, place: str, department: Any) -> None:
    """Put a term of the department that owns the place; no cohort opens it."""
    term = DepartmentTerm.objects.create(
        department=department, form=f"Form-{place}", meaning=f"Meaning-{place}"
    )
    world.put("term", place, term, term.form, term.meaning, hidden_as=intake_of(place))
