"""Indexing of slide images: state transitions, and the one transaction of the result.

QUEUED -> RUNNING -> INDEXED | SKIPPED(reason) | FAILED(reason); RUNNING -> QUEUED when the
lease runs out. The rules of leases are in cases.services.work.
"""

import logging
import os
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from cases.errors import Conflict, LeaseLost
from cases.models import SlideImage
from cases.permissions import require
from cases.services import work
from cases.services.audit import Action, access_event_record
from cases.services.store import image_path
from cases.wsi.errors import WsiError
from cases.wsi.reader import open_slide
from retrieval.engine.aggregators import Aggregator
from retrieval.engine.encoders import ImageEncoder, load_image_encoder
from retrieval.engine.errors import EngineError, SkipSlide
from retrieval.engine.mosaic import Mosaic
from retrieval.engine.pipeline import EmbeddedSlide, Timings, embed_slide
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideIndex
from retrieval.services import features as stored
from retrieval.services.aggregation import model_aggregator
from retrieval.services.encoders import ModelChanged, recipe_check, runtime_arguments
from retrieval.services.heartbeat import Heartbeat
from retrieval.services.index_queue import (
    CLUSTER,
    SETTLING,
    index_enqueue,
    rows_make,
    wake_idle,
    wake_waiting,
)
from retrieval.services.models import (
    Modality,
    active_model,
    ensure_default_models,
    models_kept_current,
)
from retrieval.services.mosaic_codecs import coded

log = logging.getLogger(__name__)

State = SlideIndex.State
FINISHED_STATES = [State.INDEXED, State.SKIPPED, State.FAILED]
INDEXING_NICENESS = 10
# Two keep a CPU's encoder fed; a GPU takes what the cores can decode.
DECODE_THREADS = max(2, min(16, os.cpu_count() or 2))


def index_ensure(*, slide_image: SlideImage) -> SlideIndex:
    """Queue the indexing of a slide image in the caller's transaction; return the active row.

    It is indexed by the active model and by those that are kept current. An image that was
    indexed before is indexed again: its pixels have changed. What is running on the old pixels
    loses its lease; the old embedding serves until the new one. A series that may still grow
    waits until it settles: the sweep wakes the worker then.
    """
    models = models_kept_current()
    if not models or not models[0].is_active:
        ensure_default_models()
        models = models_kept_current()
    with transaction.atomic():
        rows = []
        for model in models:
            index, created = SlideIndex.objects.get_or_create(
                slide_image=slide_image,
                model=model,
                defaults={"department_id": slide_image.department_id},
            )
            if not created:
                work.requeue(SlideIndex, index.pk, from_states=[*FINISHED_STATES, State.RUNNING])
            rows.append(index)
        _forget_old_pixels(slide_image, models)
        # The others are woken when this one is done: its features then spare them the pixels.
        of_slide = SlideIndex.objects.filter(pk__in=[row.pk for row in rows])
        of_slide.exclude(pk=rows[0].pk).update(enqueued_at=None)
        if slide_image.settles_at is not None and slide_image.settles_at > timezone.now():
            reason = _("Waiting for more instances of the series.")
            of_slide.update(reason_code=SETTLING, reason=reason)
        else:
            of_slide.filter(reason_code=SETTLING).update(reason_code="", reason="")
            index_enqueue(rows[0])
    rows[0].refresh_from_db()
    return rows[0]


def _forget_old_pixels(slide_image: SlideImage, models: list[EmbeddingModel]) -> None:
    """Remove what models that are no longer kept current made of earlier pixels."""
    for table in (SlideIndex, SlideEmbedding):
        table.objects.filter(slide_image=slide_image).exclude(model__in=models).delete()


@transaction.atomic
def index_retry(*, index: SlideIndex, user: Any) -> None:
    """Index again what failed or was left out. Raises Conflict when there is nothing to retry."""
    require(user, "retry_work", index.department_id)
    if not work.requeue(SlideIndex, index.pk, from_states=[State.FAILED, State.SKIPPED]):
        raise Conflict(_("This slide is not waiting for a retry."), code="nothing_to_retry")
    index_enqueue(index)
    others = SlideIndex.objects.filter(slide_image_id=index.slide_image_id).exclude(pk=index.pk)
    for other in others.filter(model__is_kept_current=True):
        if work.requeue(SlideIndex, other.pk, from_states=[State.FAILED, State.SKIPPED]):
            SlideIndex.objects.filter(pk=other.pk).update(enqueued_at=None)
    access_event_record(
        user=user,
        action=Action.CHANGE,
        department_id=index.department_id,
        patient_id=index.slide_image.slide.case.patient_id,
        target=index,
        detail={"act": "retry"},
    )


def reindex(*, states: Iterable[str], department_code: str = "") -> int:
    """Queue slide images of these states again by the active model; return how many."""
    rows = SlideIndex.objects.filter(model=active_model(Modality.IMAGE), state__in=list(states))
    if department_code:
        rows = rows.filter(department__code=department_code)
    count = 0
    for index in rows.order_by("created_at"):
        with transaction.atomic():
            if work.requeue(SlideIndex, index.pk, from_states=[index.state]):
                index_enqueue(index)
                count += 1
    return count


def index_run(pk: UUID | str) -> str | None:
    """Index one slide image if its row is queued. Returns the state it ended in.

    None: the row is not to be had (done, taken by another worker, or deleted), or it was
    taken over meanwhile. An unexpected error queues the row again and is raised.
    """
    lease = work.claim(SlideIndex, pk, due=_settled())
    if lease is None:
        return None
    index = SlideIndex.objects.select_related("slide_image", "model").get(pk=pk)
    try:
        return _index(index, lease)
    finally:
        wake_waiting(index)


def _index(index: SlideIndex, lease: work.Lease) -> str | None:
    try:
        with Heartbeat(lease) as heartbeat:
            embedded, kept_at = _embed(index, heartbeat)
            heartbeat.tell(len(embedded.coords_l0), len(embedded.coords_l0), "save")
            _save(index, lease, embedded, kept_at)
        log.info("indexed slide image %s: %s", index.slide_image_id, embedded.timings.as_dict())
        return State.INDEXED
    except LeaseLost:
        log.warning("slide index %s was taken over by another worker", index.pk)
        return None
    except SkipSlide as skipped:
        return _end_without(index, lease, State.SKIPPED, skipped.code, skipped.message)
    except (WsiError, EngineError, ModelChanged) as error:
        # The same file and the same model fail in the same way again.
        return _end_without(index, lease, State.FAILED, error.code, error.message)
    except Exception as error:
        return _give_back(index, lease, error)


def _settled() -> Q:
    """Return the condition that no more instances of the series are waited for."""
    return Q(slide_image__settles_at=None) | Q(slide_image__settles_at__lte=timezone.now())


def _embed(index: SlideIndex, heartbeat: Heartbeat) -> tuple[EmbeddedSlide, str]:
    """Return the embedded slide, and where its features lie where they were there already."""
    slide_image, model = index.slide_image, index.model
    if slide_image.is_fluorescence:
        raise SkipSlide("fluorescence", _("A fluorescence scan: the encoder knows stained tissue."))
    aggregator = model_aggregator(model)
    for path in _kept_features(index):
        try:
            kept = stored.features_read(path)
        except stored.FeaturesUnreadable:
            log.warning("features of slide image %s are unreadable", slide_image.pk)
            continue
        return _aggregated(kept, aggregator, heartbeat), path
    # Kept features are known to be of the recipe's weights; new ones must be, too.
    recipe_check(model)
    encoder = _encoder(model.encoder)
    reader = open_slide(image_path(slide_image), mpp=slide_image.mpp)
    try:
        embedded = embed_slide(
            reader,
            encoder,
            mpp=slide_image.mpp,
            aggregate=aggregator.embed,
            progress=heartbeat.tell,
            batch=settings.ENCODER_BATCH,
            decode_threads=DECODE_THREADS,
        )
    finally:
        reader.close()
    return embedded, ""


def _kept_features(index: SlideIndex) -> list[str]:
    """Return where other models of the same encoder keep the features of the same pixels."""
    return list(
        SlideIndex.objects.filter(
            slide_image_id=index.slide_image_id,
            state=State.INDEXED,
            model__encoder=index.model.encoder,
            model__weights_sha256=index.model.weights_sha256,
        )
        .exclude(pk=index.pk)
        .exclude(features_path="")
        .order_by("-model__is_active", "pk")
        .values_list("features_path", flat=True)
    )


def _aggregated(
    kept: stored.StoredFeatures, aggregator: Aggregator, heartbeat: Heartbeat
) -> EmbeddedSlide:
    began = time.perf_counter()
    count = len(kept.features)
    heartbeat.tell(count, count, "aggregate")
    mosaic = aggregator.embed(kept.features, kept.coords_l0, kept.size_l0)
    seconds = time.perf_counter() - began
    return EmbeddedSlide(
        kept.features,
        kept.coords_l0,
        kept.size_l0,
        mosaic,
        Timings(aggregate=seconds, total=seconds),
    )


@lru_cache(maxsize=1)
def _encoder(name: str) -> ImageEncoder:
    # Loaded here, in the forked worker, at its first slide: torch must not be in the parent.
    # Indexing may take every core for hours; the pages of the same machine go first.
    os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), INDEXING_NICENESS))
    return load_image_encoder(name, *runtime_arguments())


def _save(index: SlideIndex, lease: work.Lease, embedded: EmbeddedSlide, kept_at: str) -> None:
    """Write the result. kept_at: the features are there already and are not written again."""
    patch_count = len(embedded.coords_l0)
    path = kept_at or stored.features_path(index.slide_image_id, index.model.name)
    prepared = None
    if not kept_at:
        prepared = stored.features_prepare(
            path,
            features=embedded.features,
            coords_l0=embedded.coords_l0,
            size_l0=embedded.size_l0,
        )
    with work.result_transaction(
        lease,
        State.INDEXED,
        patch_count=patch_count,
        features_path=path,
        timings=embedded.timings.as_dict(),
        reason_code="",
        reason="",
    ):
        # Takes the row's lock first: only the holder of the lease replaces the file.
        lease.heartbeat(done=patch_count, total=patch_count, step="save")
        embedding_write(slide_image=index.slide_image, model=index.model, mosaic=embedded.mosaic)
        if prepared:
            stored.features_place(prepared, path)


def embedding_write(*, slide_image: SlideImage, model: EmbeddingModel, mosaic: Mosaic) -> None:
    """Write the vectors of a slide image by this model, in place of earlier ones."""
    SlideEmbedding.objects.update_or_create(
        slide_image=slide_image,
        model=model,
        defaults={
            "department_id": slide_image.department_id,
            "vector": mosaic.slide_vector,
            **coded(model, mosaic.tokens),
            "places": mosaic.places,
        },
    )


def _end_without(
    index: SlideIndex, lease: work.Lease, state: str, code: str, reason: str
) -> str | None:
    """End a row that has no embedding; one of earlier pixels goes with it."""
    log.info("slide image %s: %s (%s)", index.slide_image_id, state, code)
    try:
        with work.result_transaction(
            lease, state, reason_code=code, reason=reason[:500], patch_count=0, timings={}
        ):
            SlideEmbedding.objects.filter(
                slide_image_id=index.slide_image_id, model_id=index.model_id
            ).delete()
    except LeaseLost:
        return None
    return state


def _give_back(index: SlideIndex, lease: work.Lease, error: Exception) -> str:
    log.exception("indexing of slide image %s broke", index.slide_image_id)
    try:
        with transaction.atomic():
            # The text of an unexpected error may quote the file; its kind never does.
            if lease.give_back(
                reason_code="unexpected",
                reason=_("An unexpected error (%(kind)s); the log has it.")
                % {"kind": type(error).__name__},
            ):
                index_enqueue(index)
    except LeaseLost:
        log.warning("slide index %s was taken over by another worker", index.pk)
    raise error


def index_sweep() -> dict[str, int]:
    """Heal what was lost: expired leases, lost messages, slide images without a row."""
    queued, failed = work.expire_leases(SlideIndex)
    forgotten = work.forgotten(SlideIndex, cluster=CLUSTER)
    with transaction.atomic():
        lost = SlideIndex.objects.filter(pk__in=[*queued, *forgotten])
        for index in lost.exclude(reason_code=SETTLING):
            index_enqueue(index)
    index_wake_settled()
    missing = _index_missing()
    wake_idle()
    counts = {
        "requeued": len(queued),
        "failed": len(failed),
        "forgotten": len(set(forgotten) - set(queued)),
        "missing": missing,
    }
    if any(counts.values()):
        log.warning("index sweep: %s", counts)
    return counts


def index_wake_settled() -> int:
    """Queue the series whose quiet time is over; returns how many."""
    count = 0
    rows = SlideIndex.objects.filter(_settled(), state=State.QUEUED, reason_code=SETTLING)
    for index in rows.select_related("model"):
        with transaction.atomic():
            # Once, however many sweeps look at the same moment.
            if rows.filter(pk=index.pk).update(reason_code="", reason=""):
                count += 1
                if index.model.is_active:
                    index_enqueue(index)
    return count


def _index_missing(limit: int = 200) -> int:
    """Make rows for slide images that a model in use has none for; return how many."""
    models = models_kept_current()
    if not models or not models[0].is_active:
        return 0
    return sum(rows_make(model, most=limit, batch=limit) for model in models)
