"""Whether searches find what an exact search finds: asked each night, department by department.

A stand-in with the rights of one ordinary member asks as a member would, by the same statements,
and the answer is compared with the full mosaic distance to every slide in that member's sight.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from django.utils import timezone

from cases.models import Department, SlideImage
from cases.permissions import Role
from retrieval.filters import SearchFilters
from retrieval.models import EmbeddingModel, SearchSelfCheck, SlideEmbedding
from retrieval.services.comparing import compare_mosaics
from retrieval.services.models import Modality
from retrieval.services.query_mosaics import ImagePart
from retrieval.services.search_evidence import Scope, StageClock, evidence_fused, evidence_gather

log = logging.getLogger(__name__)

ANSWERS = 10
RECALL_LEAST = 0.98
ASKED_MOST, ASKED_LEAST = 20, 3
# Exact comparisons of one department's check: some minutes of one core.
COMPARED_MOST = 1_000_000
_BATCH = 2_000
KEPT = timedelta(days=400)
# Similarities are rounded to five decimals; the last may differ with what is compared beside it.
_TIE = 1.5e-5


class _Member:
    """A reader with one membership, that of a pathologist, and no row in the database."""

    is_authenticated = True
    is_active = True
    is_superuser = False
    pk = id = None

    def __init__(self, department: Department) -> None:
        self._membership_pairs = ((department.pk, Role.PATHOLOGIST),)


@dataclass(frozen=True)
class _Asked:
    recall: float
    way: str


def self_checks_run(*, department_code: str = "") -> list[SearchSelfCheck]:
    """Check each department, or one, by the model that searches use; returns what was kept."""
    departments = Department.objects.order_by("pk")
    if department_code:
        departments = departments.filter(code=department_code)
    SearchSelfCheck.objects.filter(checked_at__lt=timezone.now() - KEPT).delete()
    model = EmbeddingModel.objects.filter(modality=Modality.IMAGE, is_active=True).first()
    if model is None:
        return []
    rows = (self_check_run(department=department, model=model) for department in departments)
    return [row for row in rows if row]


def self_check_run(*, department: Department, model: EmbeddingModel) -> SearchSelfCheck | None:
    """Ask a sample of the department's slides; None where there is nobody to compare with."""
    member = _Member(department)
    seen = SlideEmbedding.objects.visible_to(member).filter(model=model).count()
    if not seen:
        return None
    most = int(np.clip(COMPARED_MOST // seen, ASKED_LEAST, ASKED_MOST))
    # Anew each night, so that what is missing is not missed for ever.
    sample = (
        SlideEmbedding.objects.filter(department=department, model=model)
        .select_related("model", "slide_image__slide__case__patient")
        .order_by("?")[:most]
    )
    asked = [found for row in sample if (found := _ask(member, model, row))]
    if not asked:
        return None
    recalls = [one.recall for one in asked]
    recall = float(np.mean(recalls))
    row = SearchSelfCheck.objects.create(
        department=department,
        model=model,
        asked=len(asked),
        recall=recall,
        worst=min(recalls),
        is_alert=recall < RECALL_LEAST,
        by_way=dict(Counter(one.way for one in asked)),
    )
    if row.is_alert:
        log.error(
            "Searches of department %s by model %s find %.3f of the exact answer",
            department.pk,
            model.pk,
            recall,
        )
    return row


def _ask(member: Any, model: EmbeddingModel, row: SlideEmbedding) -> _Asked | None:
    part = ImagePart(model, row.as_mosaic(), whole_slide=True, slide_image=row.slide_image)
    scope = Scope(member, SearchFilters(), part, include_same_patient=False)
    exact = _exact(scope, part)
    if not exact:
        return None  # all that is there is of the same patient
    clock = StageClock()
    found = evidence_gather(scope, part, None, None, clock)
    hits = evidence_fused(found, image_weight=1.0, text_weight=0.0, limit=ANSWERS)
    # Of equals, either is right: counted by similarity, not by identity.
    last = exact[-1] - _TIE
    right = sum(1 for hit in hits if (hit.image_similarity or -1.0) >= last)
    return _Asked(min(right, len(exact)) / len(exact), str(clock.stages["way"]))


def _exact(scope: Scope, part: ImagePart) -> list[float]:
    """Return the best similarities among all slides in sight, descending; no index is asked."""
    slides = SlideImage.objects.filter(
        pk__in=scope.embeddings().filter(model=part.model).values("slide_image_id")
    )
    keys = list(slides.order_by("pk").values_list("pk", flat=True))
    best: list[float] = []
    for start in range(0, len(keys), _BATCH):
        compared = compare_mosaics(scope.embeddings(), part, keys[start : start + _BATCH])
        best += [comparison.similarity for comparison in compared.values()]
        best = sorted(best, reverse=True)[:ANSWERS]
    return best
