"""Who was shown to whom by a search."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from cases.services.audit import Action, access_events_listed
from retrieval.models import SearchQuery


def search_shown_record(
    *, user: Any, query: SearchQuery, patients: Iterable[tuple[UUID, int]], hits: int
) -> None:
    """Record a look at an answer: one event per patient in it. patients: (id, department)."""
    access_events_listed(
        user=user,
        action=Action.SHOWN,
        object_type=query._meta.model_name,
        object_id=str(query.pk),
        subjects=patients,
        detail={"hits": hits},
    )


def search_history_record(*, user: Any, queries: Iterable[SearchQuery]) -> None:
    """Record a look at one's own questions: one event per patient whose slide was asked by."""
    cases = [query.slide_image.slide.case for query in queries if query.slide_image]
    access_events_listed(
        user=user,
        object_type=SearchQuery._meta.model_name,
        subjects=[(case.patient_id, case.department_id) for case in cases],
        detail={"list": True},
    )
