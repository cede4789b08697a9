"""What the page of an answer shows: the hits in the reader's order, by patient, cards or table."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest

from cases.models import Cohort
from cases.permissions import departments_with
from retrieval import selectors
from retrieval.models import Feedback, SavedSearch, SearchQuery
from retrieval.selectors import Results
from retrieval.selectors_quality import slides_weak
from retrieval.services.reranking import reranked
from retrieval.views.crops import ShownHit, with_pairs

HITS_A_PAGE = 20
CARDS, TABLE = "cards", "table"


@dataclass(frozen=True)
class Answer:
    """The best hit of a patient, and that patient's others."""

    best: ShownHit
    more: list[ShownHit] = field(default_factory=list)


def by_patient(shown: Iterable[ShownHit]) -> list[Answer]:
    """Return the hits with those of one patient together, in the order of each one's best."""
    answers: dict[Any, Answer] = {}
    for hit in shown:
        key = hit.result.patient_rank  # of one person: equal
        if key in answers:
            answers[key].more.append(hit)
        else:
            answers[key] = Answer(hit)
    return list(answers.values())


def answers_context(request: HttpRequest, query: SearchQuery, results: Results) -> dict[str, Any]:
    """Return what the list of answers shows, whole or as the part that a verdict changes."""
    moved = reranked(user=request.user, results=results)
    hits = moved.hits if moved else results.hits
    weak = slides_weak(user=request.user, slide_image_ids=[hit.slide_image.pk for hit in hits])
    answers = by_patient(with_pairs(results.query, hits, weak))
    told = SavedSearch.objects.filter(user=request.user, answer=query).first()
    return {
        "query": query,
        "new_slides": [*told.fresh, *told.shown] if told else [],
        "results": results,
        "moved": moved,
        "page_obj": Paginator(answers, HITS_A_PAGE).get_page(request.GET.get("page")),
        "view": _view(request),
        "cohorts": Cohort.objects.filter(
            department__in=departments_with(request.user, "curate_cohort")
        ).select_related("department"),
        "may_judge": bool(departments_with(request.user, "give_feedback")),
        "may_export_results": bool(departments_with(request.user, "export_cohort")),
        "verdicts": Feedback.Verdict,
        "models": selectors.models_shown(query),
    }


def _view(request: HttpRequest) -> str:
    """Return how the reader wants answers shown; the choice holds for the session."""
    asked = request.GET.get("view")
    if asked in {CARDS, TABLE} and request.session.get("answers_view", CARDS) != asked:
        request.session["answers_view"] = asked
    return request.session.get("answers_view", CARDS)
