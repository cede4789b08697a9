"""How much of the archive a model has embedded, beside what the active one has."""

from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from cases.models import Report
from retrieval.models import EmbeddingModel, ReportEmbedding, SlideIndex

Modality = EmbeddingModel.Modality
State = SlideIndex.State


@dataclass(frozen=True)
class Coverage:
    """How far a model is.

    wanted: slides (or reports) that the active model has embedded; covered: those of them that
    this model has embedded too. The other numbers count this model's rows of indexing.
    """

    wanted: int
    covered: int
    waiting: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def missing(self) -> int:
        """Return how many would be lost from searches by a switch now."""
        return self.wanted - self.covered

    @property
    def percent(self) -> int:
        """Return the covered part, rounded down: 100 means all."""
        return 100 * self.covered // self.wanted if self.wanted else 100


def model_coverage(model: EmbeddingModel, indexes: QuerySet[SlideIndex] | None = None) -> Coverage:
    """Return how far a model is. indexes: count only these rows (those that a user sees)."""
    if model.modality == Modality.TEXT:
        return _report_coverage(model)
    rows = SlideIndex.objects.all() if indexes is None else indexes
    own = SlideIndex.objects.filter(
        slide_image_id=OuterRef("slide_image_id"), model=model, state=State.INDEXED
    )
    found = (
        rows.filter(model__is_active=True, state=State.INDEXED)
        .order_by()
        .aggregate(wanted=Count("pk"), covered=Count("pk", filter=Exists(own)))
    )
    states = (
        rows.filter(model=model)
        .order_by()
        .aggregate(
            waiting=Count("pk", filter=Q(state__in=[State.QUEUED, State.RUNNING])),
            failed=Count("pk", filter=Q(state=State.FAILED)),
            skipped=Count("pk", filter=Q(state=State.SKIPPED)),
        )
    )
    return Coverage(**found, **states)


def _report_coverage(model: EmbeddingModel) -> Coverage:
    own = ReportEmbedding.objects.filter(report_id=OuterRef("pk"), model=model)
    active = ReportEmbedding.objects.filter(report_id=OuterRef("pk"), model__is_active=True)
    current = Report.objects.filter(Exists(active), is_current=True).order_by()
    return Coverage(current.count(), current.filter(Exists(own)).count())
