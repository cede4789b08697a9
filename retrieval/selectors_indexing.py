"""Reads of the state of indexing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, DateTimeField, QuerySet, Value
from django.db.models.functions import Greatest

from cases import identity
from retrieval.coverage import Coverage, model_coverage
from retrieval.models import EmbeddingModel, SlideIndex


def slide_indexes(*, user: Any, to_read: bool = False) -> QuerySet[SlideIndex]:
    """Return the index rows that the user may see, of the active model, with `changed_at`.

    to_read: for pages of rows whose addresses the user has, also of cases opened to this user.
    State changes are single UPDATEs, which leave `updated_at` as it was.
    """
    changed = Greatest("created_at", "enqueued_at", "started_at", "finished_at")
    if identity.veils(user):  # a real date, beside moved ones
        changed = Value(None, output_field=DateTimeField())
    rows = SlideIndex.objects.readable_by(user) if to_read else SlideIndex.objects.visible_to(user)
    return rows.filter(
        model__is_active=True, model__modality=EmbeddingModel.Modality.IMAGE
    ).annotate(changed_at=changed)


def slide_indexes_for_list(
    *, user: Any, states: Iterable[str] = (), department: int | None = None
) -> QuerySet[SlideIndex]:
    """Return index rows with what the list shows, the last changed first."""
    rows = slide_indexes(user=user)
    if states:
        rows = rows.filter(state__in=states)
    if department is not None:
        rows = rows.filter(department=department)
    return rows.select_related("department", "slide_image__slide__case").order_by(
        "-changed_at", "pk"
    )


def slide_index_counts(*, user: Any, department: int | None = None) -> dict[str, int]:
    """Return how many visible rows are in each state."""
    rows = slide_indexes(user=user)
    if department is not None:
        rows = rows.filter(department=department)
    found = dict(rows.order_by().values_list("state").annotate(Count("pk")))
    return {state: found.get(state, 0) for state in SlideIndex.State.values}


def slide_indexes_of(*, user: Any, slide_image_ids: Iterable[UUID]) -> dict[UUID, SlideIndex]:
    """Return the visible index rows of these slide images, by slide image: one query."""
    rows = slide_indexes(user=user, to_read=True).filter(slide_image_id__in=list(slide_image_ids))
    return {row.slide_image_id: row for row in rows}


def slide_image_ids_in_state(user: Any, state: str) -> QuerySet[SlideIndex]:
    """Return the ids of the user's slide images whose index row is in that state."""
    rows = SlideIndex.objects.visible_to(user).filter(state=state)
    active = EmbeddingModel.objects.filter(
        is_active=True, modality=EmbeddingModel.Modality.IMAGE
    ).values_list("pk", flat=True)
    # By value: with the model known the planner sees how many rows there are.
    return rows.filter(model__in=list(active)).values("slide_image")


@dataclass(frozen=True)
class CatchingUp:
    """A model that is not active yet, and how far it is over the slides that a user sees."""

    model: EmbeddingModel
    coverage: Coverage


def models_catching_up(*, user: Any) -> list[CatchingUp]:
    """Return the models that are kept current beside the active one and still lack slides."""
    rows = SlideIndex.objects.visible_to(user)
    models = EmbeddingModel.objects.filter(
        modality=EmbeddingModel.Modality.IMAGE, is_kept_current=True, is_active=False
    )
    found = [CatchingUp(model, model_coverage(model, rows)) for model in models]
    return [each for each in found if each.coverage.missing or each.coverage.waiting]
