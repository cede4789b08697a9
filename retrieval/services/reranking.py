"""An answer in the order of its reader's own marks, at once and without a new search.

"More like the marked ones" asks the whole archive anew; this orders what was answered already, so
that each press of a button is seen. The stored answer, its ranks and its vote stay as they are.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from cases.permissions import departments_with
from retrieval.engine.ranking import competition_ranks, reciprocal_rank_fusion
from retrieval.engine.relevance import rocchio_scores
from retrieval.models import Feedback, ReportEmbedding, SlideEmbedding
from retrieval.services.refining import refinement_of


@dataclass(frozen=True)
class Reranked:
    """The hits in the order that the marks make, and how many marks there are."""

    hits: list[Any]
    relevant: int
    irrelevant: int


def reranked(*, user: Any, results: Any) -> Reranked | None:
    """Return the hits ordered by the reader's marks, or None where nothing is marked.

    results: what `retrieval.selectors.search_results` found for this user.

    What was marked relevant comes first and what was marked not relevant last; between them the
    others, by Rocchio's score of their tissue and, where words were asked, of their reports.
    """
    marked = {hit.slide_image.pk: hit.verdict for hit in results.hits if hit.verdict}
    if not marked or not departments_with(user, "give_feedback"):
        return None
    ranks = _ranks(user, results)
    group = {Feedback.Verdict.RELEVANT: 0, "": 1, Feedback.Verdict.NOT_RELEVANT: 2}
    order = sorted(
        results.hits,
        key=lambda hit: (group[hit.verdict], -ranks.get(hit.slide_image.pk, 0.0), hit.rank),
    )
    relevant = sum(verdict == Feedback.Verdict.RELEVANT for verdict in marked.values())
    return Reranked(order, relevant, len(marked) - relevant)


def _ranks(user: Any, results: Any) -> dict[UUID, float]:
    """Return by slide image what orders those between the marked; larger is better."""
    query = results.query
    refinement = refinement_of(user, query)
    parts = []
    similarities = {
        hit.slide_image.pk: hit.hit.image_similarity
        for hit in results.hits
        if hit.hit.image_similarity is not None
    }
    if query.image_model and similarities:
        seen = SlideEmbedding.objects.visible_to(user)
        parts.append(refinement.scores(seen, query.image_model, similarities))
    if query.text_model:
        parts.append(_by_reports(user, results, refinement.relevant, refinement.irrelevant))
    answered = {hit.slide_image.pk: -float(hit.rank) for hit in results.hits}
    if not query.asks_by_image or not any(parts):
        parts.append(answered)  # words have an order of their own, which meaning alone has not
    return reciprocal_rank_fusion([(competition_ranks(part), 1.0) for part in parts if part])


def _by_reports(
    user: Any, results: Any, relevant: Collection[UUID], irrelevant: Collection[UUID]
) -> dict[UUID, float]:
    cases = {hit.slide_image.pk: hit.case.pk for hit in results.hits}
    vectors = {
        case: np.asarray(vector, np.float64)
        for case, vector in ReportEmbedding.objects.visible_to(user)
        .filter(
            model=results.query.text_model,
            report__is_current=True,
            report__case__in=set(cases.values()),
        )
        .values_list("report__case_id", "vector")
    }
    known = [hit for hit in results.hits if hit.case.pk in vectors]
    if not known:
        return {}
    matrix = np.stack([vectors[hit.case.pk] for hit in known])
    base = np.array([hit.hit.text_similarity or 0.0 for hit in known])

    def similar(marked: Collection[UUID]) -> np.ndarray:
        rows = [vectors[cases[pk]] for pk in marked if cases.get(pk) in vectors]
        return np.stack(rows) @ matrix.T if rows else np.zeros((0, len(known)))

    scores = rocchio_scores(base, similar(relevant), similar(irrelevant))
    return {hit.slide_image.pk: float(score) for hit, score in zip(known, scores, strict=True)}
