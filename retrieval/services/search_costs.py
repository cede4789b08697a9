"""What searching costs on this site, measured: the planner chooses by it."""

import time
from typing import Any

import numpy as np
from django.db.models import Count

from cases.errors import DomainError
from retrieval.engine.search_plan import EF_SEARCH_MAX, Plan
from retrieval.models import EmbeddingModel, SearchCosts, SlideEmbedding
from retrieval.querysets import Neighbour, SlideEmbeddingQuerySet, postgres_set
from retrieval.querysets_planned import plans_forget

RECALL_AIM = 0.99
# As many as searches ask for: reports near in meaning, and slides.
ANSWERS = (400, 1000)
WIDTHS = (100, 200, 300, 400, 600, 800, 1000)
SLIDES_LEAST = 2_000


class TooFewSlides(DomainError):
    """Nothing to measure on: small archives are compared exactly anyway."""

    code = "too_few_slides"


def search_costs_measure(*, model: EmbeddingModel, questions: int = 10) -> SearchCosts:
    """Time both ways and find the ef_search that reaches the recall aimed at; keep it."""
    rows = SlideEmbedding.objects.filter(model=model)
    slides = rows.count()
    if slides < SLIDES_LEAST:
        raise TooFewSlides(
            f"{slides} slides are indexed by {model.name}; measure from {SLIDES_LEAST} on. "
            "Fewer are compared one by one, and need no measured costs."
        )
    sample = rows.order_by("slide_image_id").values_list("vector", flat=True)[:questions]
    vectors = [np.asarray(vector, dtype=np.float32) for vector in sample]
    _seconds, right = _exact(rows, model, vectors, max(ANSWERS))
    # A row costs more where a department's rows lie scattered among the others', as for who
    # searches in one: the largest is asked.
    largest = rows.order_by().values("department").annotate(of_it=Count("pk")).order_by("-of_it")[0]
    scattered = rows.filter(department=largest["department"])
    exact_seconds, _answers = _exact(scattered, model, vectors, max(ANSWERS))
    narrow, wide = (_walk_seconds(rows, model, vectors, ef) for ef in (WIDTHS[0], WIDTHS[-1]))
    visit = max((wide - narrow) / (WIDTHS[-1] - WIDTHS[0]), 1e-8)
    row, _created = SearchCosts.objects.update_or_create(
        model=model,
        defaults={
            "slides": slides,
            "exact_us": exact_seconds / largest["of_it"] * 1e6,
            "visit_us": visit * 1e6,
            "walk_us": max(narrow - WIDTHS[0] * visit, 0.0) * 1e6,
            "ef_search": {str(n): _width_for(rows, model, vectors, right, n) for n in ANSWERS},
        },
    )
    plans_forget()
    return row


def _exact(
    rows: SlideEmbeddingQuerySet, model: Any, vectors: list[np.ndarray], limit: int
) -> tuple[float, list[list[Any]]]:
    """Return the median seconds of an exact scan, and each question's answer."""
    taken, answers = [], []
    # By one process: under row security, as searches are, Postgres scans by no more.
    with postgres_set(rows.db, max_parallel_workers_per_gather=0):
        for vector in vectors:
            started = time.perf_counter()
            found = rows.nearest(
                model=model, vector=vector, limit=limit, key="slide_image_id", exact=True
            )
            taken.append(time.perf_counter() - started)
            answers.append([neighbour.key for neighbour in found])
    return float(np.median(taken)), answers


def _walk(
    rows: SlideEmbeddingQuerySet, model: Any, vector: np.ndarray, limit: int, ef_search: int
) -> list[Neighbour]:
    plan = Plan("index", 0, limit, ef_search, 0.0)
    return rows.nearest(
        model=model, vector=vector, limit=limit, key="slide_image_id", exact=False, plan=plan
    )


def _walk_seconds(
    rows: SlideEmbeddingQuerySet, model: Any, vectors: list[np.ndarray], ef_search: int
) -> float:
    taken = []
    for vector in vectors:
        _walk(rows, model, vector, WIDTHS[0], ef_search)  # the pages are in memory then
        started = time.perf_counter()
        _walk(rows, model, vector, WIDTHS[0], ef_search)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def _width_for(
    rows: SlideEmbeddingQuerySet,
    model: Any,
    vectors: list[np.ndarray],
    right: list[list[Any]],
    limit: int,
) -> int:
    """Return the least ef_search with the recall aimed at; the largest where none has it."""
    for ef_search in (width for width in WIDTHS if width >= limit):
        shares = [
            len({n.key for n in _walk(rows, model, vector, limit, ef_search)} & set(keys[:limit]))
            / limit
            for vector, keys in zip(vectors, right, strict=True)
        ]
        if np.mean(shares) >= RECALL_AIM:
            return ef_search
    return EF_SEARCH_MAX
