"""The words of a question: full text (websearch syntax) and meaning, over current reports."""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
from django.contrib.postgres.search import SearchQuery as FullTextQuery
from django.contrib.postgres.search import SearchRank
from django.db.models import F, QuerySet

from cases.models import Report, SlideImage
from retrieval.engine.aggregators import UnknownWords
from retrieval.engine.errors import EngineError
from retrieval.models import EmbeddingModel, ReportEmbedding
from retrieval.querysets import SlideEmbeddingQuerySet
from retrieval.services.aggregation import AggregatorUnavailable, texts_as_slides
from retrieval.services.models import NoActiveModel, active_model
from retrieval.services.query_encoding import EncoderUnavailable, encode_texts

logger = logging.getLogger(__name__)

_QUOTED = re.compile(r'"[^"]*\w[^"]*"')
_EXCLUDED = re.compile(r'(?:^|\s)-(?:"[^"]*"|\w[\w-]*)')
_OPERATORS = re.compile(r'["()]|\bOR\b')


@dataclass(frozen=True)
class TextPart:
    """The words as asked, their tsquery, and their vector where an encoder answered.

    slide_model, slide_vector: where the words lie among the slides, for an active model that
    was aligned with reports; so they find slides that have no report.

    strict: a phrase was quoted or a word excluded; meaning may then reorder the reports that
    fulfil the words, but not add others.
    """

    text: str
    strict: bool
    model: EmbeddingModel | None = None
    vector: np.ndarray | None = None
    slide_model: EmbeddingModel | None = None
    slide_vector: np.ndarray | None = None
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
    part = TextPart(text, strict, notices=notices)
    if not spoken:
        return part
    return _among_slides(_among_reports(part, spoken), spoken)


def _among_reports(part: TextPart, spoken: str) -> TextPart:
    """Return the words with their vector among reports; with a notice where there is none."""
    try:
        model = active_model(EmbeddingModel.Modality.TEXT)
        return replace(part, model=model, vector=encode_texts(model, [spoken])[0])
    except (EncoderUnavailable, NoActiveModel) as error:
        logger.warning("Searching by full text alone: %s", error.code)
        notice = (
            "Reports were searched by their words alone: the encoder of their meaning "
            "is not available."
        )
        return replace(part, notices=[*part.notices, notice])


def _among_slides(part: TextPart, spoken: str) -> TextPart:
    """Return the words with their vector among slides, where the active model has one."""
    model = EmbeddingModel.objects.filter(
        modality=EmbeddingModel.Modality.IMAGE, is_active=True, has_text_side=True
    ).first()
    if model is None:
        return part
    try:
        return replace(part, slide_model=model, slide_vector=texts_as_slides(model, [spoken])[0])
    except UnknownWords:
        notice = "The model that compares words with tissue knows none of these words."
    except (AggregatorUnavailable, EncoderUnavailable, EngineError) as error:
        logger.warning("Words are not compared with tissue: %s", error.code)
        notice = "Words were not compared with tissue: that part of the model is not available."
    return replace(part, notices=[*part.notices, notice])


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


def slides_near_words(
    user: Any, embeddings: SlideEmbeddingQuerySet, words: TextPart, *, limit: int
) -> set[UUID]:
    """Return those of these slides that lie nearest to the words, where a model places both."""
    if words.slide_vector is None:
        return set()
    near = _answering(user, embeddings, words).nearest(
        model=words.slide_model, vector=words.slide_vector, limit=limit, key="slide_image_id"
    )
    return {neighbour.key for neighbour in near}


def words_to_slides(
    user: Any, embeddings: SlideEmbeddingQuerySet, words: TextPart, keys: Collection[UUID]
) -> dict[UUID, float]:
    """Return the cosine of the words to each of these slides that may answer them."""
    if words.slide_vector is None:
        return {}
    near = _answering(user, embeddings, words).similarities(
        model=words.slide_model, vector=words.slide_vector, keys=keys, key="slide_image_id"
    )
    return {pk: round(float(similarity), 5) for pk, similarity in near.items()}


def _answering(
    user: Any, embeddings: SlideEmbeddingQuerySet, words: TextPart
) -> SlideEmbeddingQuerySet:
    """Return the slides that the words may be compared with.

    Quoted and excluded words hold for the reports; then a slide needs such a report.
    """
    if not words.strict:
        return embeddings
    cases = _current_reports(user, words).values("case_id")
    return embeddings.filter(slide_image__slide__case__in=cases)
