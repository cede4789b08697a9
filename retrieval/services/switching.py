"""From one embedding model to another: re-embed in the background, switch, switch back.

Searches use the active model until the one transaction of `model_activate`. The model that was
active stays current with new slides, so that the way back needs no re-embedding.
"""

from collections.abc import Callable
from typing import Any

from django.db import transaction

from cases.errors import Conflict, DomainError
from cases.row_scope import acting_for_system
from cases.services import work
from cases.services.audit import Action, access_event_record
from retrieval.coverage import Coverage, model_coverage
from retrieval.engine.errors import EngineError
from retrieval.models import EmbeddingModel, SlideIndex
from retrieval.querysets import vector_index_ensure, vector_index_is_ready
from retrieval.services.aggregation import AggregatorUnavailable, model_aggregator
from retrieval.services.index_queue import rows_make, wake_idle
from retrieval.services.indexing import index_run
from retrieval.services.models import Modality, embedding_table, models_lock

State = SlideIndex.State


class CoverageIncomplete(Conflict):
    """Slides that can be found now could not be found after the switch."""

    code = "coverage_incomplete"


class IndexNotReady(Conflict):
    """The model's ANN index is not built yet."""

    code = "index_not_ready"


@acting_for_system("a model is of the whole archive")
def model_reembed(*, model: EmbeddingModel, user: Any = None) -> int:
    """Let a model catch up with the archive in the background; return how many slides wait.

    Features that another model of the same encoder has kept are used; the pixels of other
    slides are read. Safe to call again: what is done stays, what failed is tried again.
    """
    if model.modality != Modality.IMAGE:
        raise DomainError("Only slides are embedded anew; reports follow by themselves.")
    try:
        model_aggregator(model)
    except EngineError as error:
        raise AggregatorUnavailable(error.message) from error
    # Built before the rows come: while it is made, searches and indexing go on.
    vector_index_ensure(embedding_table(model), model)
    with transaction.atomic():
        EmbeddingModel.objects.filter(pk=model.pk).update(is_kept_current=True)
        model.is_kept_current = True
        rows_make(model)
        for pk in SlideIndex.objects.filter(model=model, state=State.FAILED).values_list(
            "pk", flat=True
        ):
            if work.requeue(SlideIndex, pk, from_states=[State.FAILED]):
                SlideIndex.objects.filter(pk=pk).update(enqueued_at=None)
        access_event_record(
            user=user, action=Action.CHANGE, target=model, detail={"act": "reembed"}
        )
    wake_idle()
    return SlideIndex.objects.filter(model=model, state=State.QUEUED).count()


def model_reembed_here(
    *, model: EmbeddingModel, tell: Callable[[int, int], None] = lambda done, total: None
) -> Coverage:
    """Work on the model's waiting slides in this process, beside any workers, to the end."""
    todo = list(
        SlideIndex.objects.filter(model=model, state=State.QUEUED)
        .order_by("created_at", "pk")
        .values_list("pk", flat=True)
    )
    for done, pk in enumerate(todo):
        tell(done, len(todo))
        # What is taken by a worker meanwhile is None here, and nothing is done twice.
        index_run(pk)
    tell(len(todo), len(todo))
    return model_coverage(model)


@acting_for_system("a model is of the whole archive")
def model_activate(*, model: EmbeddingModel, user: Any = None, force: bool = False) -> None:
    """Make searches use this model, from one moment to the next.

    Refused while slides would be lost from searches, unless forced. The model that was active
    is kept current.
    """
    if force:
        # Before the transaction, and so beside running searches and indexing.
        vector_index_ensure(embedding_table(model), model)
    with transaction.atomic():
        models_lock()
        model.refresh_from_db()
        coverage = model_coverage(model)
        if coverage.missing and not force:
            raise CoverageIncomplete(
                f"{coverage.missing} of {coverage.wanted} slides that can be found now are not "
                f"embedded by {model.name} yet. Start manage.py models reembed {model.name}, "
                "wait until it has caught up, or force the switch."
                if model.modality == Modality.IMAGE
                else f"{coverage.missing} of {coverage.wanted} reports are not embedded by "
                f"{model.name} yet. They follow once it is active; force the switch."
            )
        _require_usable(model, force)
        was = EmbeddingModel.objects.filter(modality=model.modality, is_active=True)
        was = was.exclude(pk=model.pk)
        before = was.values_list("name", flat=True).first()
        was.update(is_active=False, is_kept_current=model.modality == Modality.IMAGE)
        EmbeddingModel.objects.filter(pk=model.pk).update(is_active=True, is_kept_current=False)
        access_event_record(
            user=user,
            action=Action.CHANGE,
            target=model,
            detail={"activated": model.name, "before": before or "", "missing": coverage.missing},
        )
    model.refresh_from_db()


def _require_usable(model: EmbeddingModel, force: bool) -> None:
    if model.modality == Modality.IMAGE:
        try:
            model_aggregator(model)
        except EngineError as error:
            raise AggregatorUnavailable(error.message) from error
    table = embedding_table(model)
    if vector_index_is_ready(table, model):
        return
    if not force and table.objects.filter(model=model).exists():
        raise IndexNotReady(
            f"The ANN index of {model.name} is not there. Build it beside the running searches: "
            f"manage.py models reembed {model.name}"
        )
    vector_index_ensure(table, model)


@acting_for_system("a model is of the whole archive")
def model_retire(*, model: EmbeddingModel, user: Any = None) -> None:
    """Index new slides no longer by this model. What it has embedded stays."""
    with transaction.atomic():
        models_lock()
        model.refresh_from_db()
        if model.is_active:
            raise Conflict(
                f"{model.name} is active. Activate another model first.", code="model_is_active"
            )
        EmbeddingModel.objects.filter(pk=model.pk).update(is_kept_current=False)
        SlideIndex.objects.filter(model=model, state=State.QUEUED).delete()
        access_event_record(user=user, action=Action.CHANGE, target=model, detail={"act": "retire"})
    model.refresh_from_db()
