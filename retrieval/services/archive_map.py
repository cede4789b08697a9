"""Lays the archive out on a map, in the background, and puts new slides on it."""

import logging
import time
from typing import Any
from uuid import UUID

import numpy as np
from django.db import transaction
from django_q.tasks import async_task

from cases.services.audit import Action, access_event_record
from cases.services.locks import one_at_a_time
from retrieval.engine.layout import PLACED_BY, SAMPLE_MOST, fit_layout
from retrieval.models import EmbeddingModel, MapPoint, MapRun, SlideEmbedding
from retrieval.services.index_queue import CLUSTER

log = logging.getLogger(__name__)

BATCH = 2000
TASK = "retrieval.tasks.map_task"


def map_request(*, model: EmbeddingModel, user: Any = None) -> None:
    """Have the archive laid out by this model, by a worker. user: who asked, if somebody did."""
    if user is not None:
        access_event_record(user=user, action=Action.CHANGE, target=model, detail={"map": True})
    async_task(TASK, str(model.pk), cluster=CLUSTER)


def maps_request() -> int:
    """Each night: lay out the archive again by the model that searches use."""
    models = EmbeddingModel.objects.filter(modality=EmbeddingModel.Modality.IMAGE, is_active=True)
    for model in models:
        map_request(model=model)
    return len(models)


def map_compute(pk: int | str) -> MapRun | None:
    """Lay out all embedded slides of the model; the map before it goes. None without slides.

    Memory: the sample, and a batch of the rest.
    """
    started = time.monotonic()
    model = EmbeddingModel.objects.filter(pk=pk).first()
    rows = SlideEmbedding.objects.filter(model_id=pk)
    count = rows.count()
    if model is None or not count:
        return None
    ids = list(rows.order_by("slide_image_id").values_list("pk", flat=True))
    # Drawn by a fixed seed: the same archive gives the same map.
    drawn = np.random.default_rng(0).permutation(count)[:SAMPLE_MOST]
    sample = _vectors([ids[at] for at in sorted(drawn)])[2]
    layout = fit_layout(sample)
    with transaction.atomic():
        one_at_a_time(f"map {pk}")
        run = MapRun.objects.create(
            model=model, slide_count=count, sample_count=len(sample), seconds=0
        )
        for start in range(0, count, BATCH):
            slides, departments, vectors = _vectors(ids[start : start + BATCH])
            places = layout.place(vectors) if len(vectors) else []
            MapPoint.objects.bulk_create(
                MapPoint(
                    run=run, slide_image_id=slide, department_id=department, x=float(x), y=float(y)
                )
                for slide, department, (x, y) in zip(slides, departments, places, strict=True)
            )
        run.seconds = time.monotonic() - started
        run.save(update_fields=["seconds"])
        MapRun.objects.filter(model=model).exclude(pk=run.pk).delete()
    log.info("map of model %s: %d slides in %.0f s", pk, count, run.seconds)
    return run


def map_place(pk: UUID | str) -> bool:
    """Put a slide that was indexed just now where its nearest slides of the map lie."""
    embedding = (
        SlideEmbedding.objects.filter(slide_image_id=pk, model__is_active=True)
        .select_related("model")
        .first()
    )
    run = MapRun.objects.filter(model=embedding.model).first() if embedding else None
    if embedding is None or run is None:
        return False
    mapped = SlideEmbedding.objects.filter(
        slide_image__in=MapPoint.objects.filter(run=run).values("slide_image_id")
    ).exclude(slide_image_id=pk)
    vector = _array(embedding.vector)
    near = mapped.nearest(
        model=embedding.model, vector=vector, limit=PLACED_BY, key="slide_image_id"
    )
    points = {
        point.slide_image_id: (point.x, point.y)
        for point in MapPoint.objects.filter(run=run, slide_image__in=[n.key for n in near])
    }
    if not points:
        return False
    x, y = np.mean(list(points.values()), axis=0)
    MapPoint.objects.update_or_create(
        run=run,
        slide_image_id=pk,
        defaults={"department_id": embedding.department_id, "x": float(x), "y": float(y)},
    )
    return True


def _vectors(ids: list[int]) -> tuple[list[UUID], list[int], np.ndarray]:
    """Return slides, departments and vectors (N, D) of embeddings, in the order of the slides."""
    rows = list(
        SlideEmbedding.objects.filter(pk__in=ids)
        .order_by("slide_image_id")
        .values_list("slide_image_id", "department_id", "vector")
    )
    vectors = [_array(row[2]) for row in rows]
    return (
        [row[0] for row in rows],
        [row[1] for row in rows],
        np.stack(vectors) if vectors else np.empty((0, 0), np.float32),
    )


def _array(vector: Any) -> np.ndarray:
    # pgvector gives a half vector or a list, by how it is read.
    return np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, np.float32)
