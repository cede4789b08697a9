"""Sentence embeddings of current reports, made soon after a report is saved."""

import logging
from typing import Any
from uuid import UUID

from django.db import transaction
from django_q.tasks import async_task

from cases import identity
from cases.models import Report
from retrieval.models import EmbeddingModel, ReportEmbedding
from retrieval.services.models import NoActiveModel, active_model
from retrieval.services.query_encoding import EncoderUnavailable, encode_texts

logger = logging.getLogger(__name__)

TASK = "retrieval.tasks.report_embedding_task"
SWEEP_BATCH = 16
SWEEP_MOST = 160  # a sweep ends before the next one begins


def report_embedding_enqueue(report: Report) -> None:
    """Queue the embedding of a new version, in the transaction that saves it."""
    async_task(TASK, str(report.pk))


def report_embed(report_id: UUID | str) -> bool:
    """Embed one report; returns whether it has an embedding now. Safe to call again.

    Only a current report has one. Without an encoder nothing is lost: the sweep comes later.
    """
    report = Report.objects.filter(pk=report_id).first()
    return report is not None and _embed([report]) == 1


def report_embeddings_sweep() -> int:
    """Embed current reports that have none for the active model; returns how many."""
    done = 0
    while done < SWEEP_MOST:
        batch = list(_missing()[:SWEEP_BATCH])
        written = _embed(batch) if batch else 0
        done += written
        if written < SWEEP_BATCH:
            break
    return done


def _text_of(report: Report) -> str:
    """Return the report without the people in it, whom nobody should find by likeness."""
    return identity.cleaner_of(report).clean(report.full_text)


def _missing() -> Any:
    model = EmbeddingModel.objects.filter(
        modality=EmbeddingModel.Modality.TEXT, is_active=True
    ).first()
    if model is None:
        return Report.objects.none()
    embedded = ReportEmbedding.objects.filter(model=model).values("report_id")
    return Report.objects.filter(is_current=True).exclude(pk__in=embedded).order_by("created_at")


def _embed(reports: list[Report]) -> int:
    """Embed these; returns how many embeddings were written or were there."""
    try:
        model = active_model(EmbeddingModel.Modality.TEXT)
        vectors = encode_texts(model, [_text_of(report) for report in reports])
    except (EncoderUnavailable, NoActiveModel) as error:
        logger.warning("%d reports wait to be embedded: %s", len(reports), error.code)
        return 0
    written = 0
    for report, vector in zip(reports, vectors, strict=True):
        with transaction.atomic():
            # Locked: a newer version saved meanwhile waits, or has made this one old already.
            row = Report.objects.select_for_update().filter(pk=report.pk).first()
            if row is None or not row.is_current:
                continue
            ReportEmbedding.objects.filter(report__case_id=row.case_id).exclude(report=row).delete()
            ReportEmbedding.objects.update_or_create(
                report=row,
                model=model,
                defaults={"department_id": row.case.department_id, "vector": vector.tolist()},
            )
            written += 1
    return written
