"""The own terms of the world's departments."""

from typing import Any

from retrieval.models import DepartmentTerm


def add_term(world: Any, place: str, department: Any) -> None:
    """Put a term of the department that owns the place; no cohort opens it."""
    term = DepartmentTerm.objects.create(
        department=department, form=f"Form-{place}", meaning=f"Meaning-{place}"
    )
    hidden_as = place if place == "foreign" else f"{place} intake"
    world.put("term", place, term, term.form, term.meaning, hidden_as=hidden_as)
