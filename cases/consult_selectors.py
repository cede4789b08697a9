"""Reads of consults."""

from typing import Any

from django.db.models import Exists, OuterRef

from cases.models import Case, Consult


def consults_of_case(user: Any, case: Case) -> list[Consult]:
    """Return the consults about the case that the user may see, with `is_of_me`, newest first."""
    of_me = Consult.objects.asked_of(user).filter(pk=OuterRef("pk"))
    return list(
        Consult.objects.visible_to(user)
        .filter(case=case)
        .annotate(is_of_me=Exists(of_me))
        .select_related("asked_by", "to_user", "to_department")
        .prefetch_related("opinions__author")
    )
