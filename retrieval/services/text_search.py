"""The words of a question: full text (websearch syntax) and meaning, over current reports."""

import logging
import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from django.contrib.postgres.search import SearchQuery as FullTextQuery
from django.contrib.postgres.search import SearchRank
from django.db.models import F, QuerySet

from cases.models import Report, SlideImage
from retrieval.models import EmbeddingModel, ReportEmbedding
from retrieval.services.models import NoActiveModel, active_model
from retrieval.services.query_encoding import EncoderUnavailable, encode_texts

logger = logging.getLogger(__name__)

_QUOTED = re.compile(r'"[^"]*\w[^"]*"')
_EXCLUDED = re.compile(r'(?:^|\s)-(?:"[^"]*"|\w[\w-]*)')
_OPERATORS = re.compile(r'["()]|\bOR\b')


@dataclass(frozen=True)
class TextPart:
    """The words as asked, their tsquery, and their vector where an encoder answered.

    strict: a phrase was quoted or a word excluded; meaning may then reorder the reports that
    fulfil the words, but not add others.
    """

    text: str
    strict: bool
    model: EmbeddingModel | None = None
    vector: np.ndarray | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def tsquery(self) -> FullTextQuery:
        """Return the words in websearch syntax, as the index of reports is built."""
        return FullTextQuery(self.text, search_type="websearch", config="english")


@dataclass(frozen=True)
class TextScore:
    """How well one case's current report answers."""

    full_text_rank: float | None
    similarity: float | None


def text_part(text: str) -> TextPart | None:
    """Return the words ready to be searched; without an encoder full text goes on alone."""
    if not text:
        return None
    strict = bool(_QUOTED.search(text) or _EXCLUDED.search(text))
    notices = []
    if strict:
        notices.append("Only reports with the quoted words and without the excluded ones.")
    spoken = " ".join(_OPERATORS.sub(" ", _EXCLUDED.sub(" ", text)).split())
    try:
        model = active_model(EmbeddingModel.Modality.TEXT)
        if not spoken:
            return TextPart(text, strict, notices=notices)
        vector = encode_texts(model, [spoken])[0]
    except (EncoderUnavailable, NoActiveModel) as error:
        logger.warning("Searching by full text alone: %s", error.code)
        notices.append(
            "Reports were searched by their words alone: the encoder of their meaning "
            "is not available."
        )
        return TextPart(text, strict, notices=notices)
    return TextPart(text, strict, model, vector, notices)


def _current_reports(user: Any, words: TextPart) -> QuerySet[Report]:
    reports = Report.objects.visible_to(user).filter(is_current=True)
    return reports.filter(search_vector=words.tsquery) if words.strict else reports


def text_nearest(
    user: Any, slide_images: QuerySet[SlideImage], words: TextPart, *, limit: int
) -> set[UUID]:
    """Return the ids of the cases, of these slide images, whose reports answer best."""
    reports = _current_reports(user, words).filter(case__in=slide_images.values("slide__case_id"))
    by_words = (
        reports.filter(search_vector=words.tsquery)
        .annotate(_rank=SearchRank(F("search_vector"), words.tsquery))
        .order_by("-_rank", "pk")
        .values_list("case_id", flat=True)[:limit]
    )
    cases = set(by_words)
    if words.vector is not None:
        near = (
            ReportEmbedding.objects.visible_to(user)
            .filter(report__in=reports)
            .nearest(model=words.model, vector=words.vector, limit=limit, key="report__case_id")
        )
        cases |= {neighbour.key for neighbour in near}
    return cases


def text_score(user: Any, case_ids: set[UUID], words: TextPart) -> dict[UUID, TextScore]:
    """Return how well the current reports of these cases answer, by case."""
    reports = _current_reports(user, words).filter(case_id__in=case_ids)
    ranks = dict(
        reports.filter(search_vector=words.tsquery)
        .annotate(_rank=SearchRank(F("search_vector"), words.tsquery))
        .values_list("case_id", "_rank")
    )
    near: dict[UUID, float] = {}
    if words.vector is not None:
        near = (
            ReportEmbedding.objects.visible_to(user)
            .filter(report__in=reports)
            .similarities(
                model=words.model, vector=words.vector, keys=case_ids, key="report__case_id"
            )
        )
    return {
        case: TextScore(ranks.get(case), round(float(near[case]), 5) if case in near else None)
        for case in case_ids
        if case in ranks or case in near
    }
