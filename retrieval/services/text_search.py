"""The words of a question: full text that knows pathology, and meaning, over current reports."""

import logging
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import numpy as np
from django.db.models import Exists, OuterRef, Q, QuerySet

from cases import identity
from cases.models import Report, SlideImage
from cases.permissions import departments_of
from cases.querysets import nothing_is_shared
from retrieval.binary_rows import binary_rows
from retrieval.engine.aggregators import UnknownWords
from retrieval.engine.errors import EngineError
from retrieval.filters import SearchFilters
from retrieval.models import EmbeddingModel, ReportEmbedding, ReportWords
from retrieval.querysets import AnyOf, SlideEmbeddingQuerySet, postgres_set
from retrieval.services.aggregation import AggregatorUnavailable, texts_as_slides
from retrieval.services.models import NoActiveModel, active_model
from retrieval.services.query_encoding import EncoderUnavailable, encode_texts
from retrieval.services.questions import question_of, understood_json
from retrieval.services.word_matching import LiteralWords, Words

logger = logging.getLogger(__name__)

# Reports with the words that are ranked by them; the rest has to be found by its meaning.
MATCHES_MOST = 1_000


@dataclass(frozen=True)
class TextPart:
    """The words as asked, what they were understood as, and their vector, if any.

    slide_model, slide_vector: where the words lie among the slides, for an active model that
    was aligned with reports; so they find slides that have no report.

    strict: a phrase was quoted, a word denied or left out, or the words are a condition ("like
    this slide, but …"); meaning may then reorder the reports that fulfil the words, but not
    add others. is_condition: the order is the tissue's.
    """

    text: str
    strict: bool
    match: Words | LiteralWords
    is_literal: bool = False
    is_condition: bool = False
    understood: dict[str, Any] = field(default_factory=dict)
    model: EmbeddingModel | None = None
    vector: np.ndarray | None = None
    slide_model: EmbeddingModel | None = None
    slide_vector: np.ndarray | None = None
    notices: list[str] = field(default_factory=list)

    def condition(self, user: Any, prefix: str) -> Q:
        """Return the condition that the words put on slide images found by their tissue."""
        if not self.strict or isinstance(self.match, LiteralWords):
            return Q()
        reports = Report.objects.visible_to(user).filter(is_current=True)
        condition = Q()
        if self.match.needs_report:
            cases = self.match.allowed(reports).values("case_id")
            condition &= Q(**{f"{prefix}slide__case__in": cases})
        forbidden = self.match.forbidden(reports)
        if forbidden is not None:
            condition &= ~Q(**{f"{prefix}slide__case__in": forbidden.values("case_id")})
        return condition


@dataclass(frozen=True)
class TextScore:
    """How well one case's current report answers.

    contradicts: the report denies what was asked for and affirms it nowhere.
    """

    full_text_rank: float | None
    similarity: float | None
    contradicts: bool = False


def text_part(
    user: Any, text: str, *, filters: SearchFilters | None = None, is_literal: bool = False
) -> TextPart | None:
    """Return the words ready to be searched; without an encoder full text goes on alone."""
    if not text:
        return None
    organs = [filters.organ] if filters and filters.organ else []
    if is_literal:
        part = TextPart(
            text,
            strict=True,
            match=LiteralWords(text, is_veiled=identity.veils(user)),
            is_literal=True,
            notices=["The words count as they were typed."],
        )
        spoken = text.replace('"', " ")
    else:
        question = question_of(user, text, organs=organs)
        part = TextPart(
            text,
            strict=question.is_strict,
            match=Words(question, is_veiled=identity.veils(user)),
            is_condition=question.is_condition,
            understood=understood_json(question),
        )
        if question.is_strict:
            part.notices.append("Only reports with the quoted words and without the excluded ones.")
        spoken = question.spoken
    if not spoken.strip():
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
    return words.match.allowed(reports) if words.strict else reports


def text_nearest(
    user: Any, slide_images: QuerySet[SlideImage], words: TextPart, *, limit: int
) -> tuple[set[UUID], list[str]]:
    """Return the ids of the cases, of these slide images, whose reports answer best.

    And what a reader must know of the way they were found.
    """
    reports = _current_reports(user, words).filter(
        Exists(slide_images.filter(slide__case=OuterRef("case")))
    )
    cases, is_cut = _by_words(user, reports, words, limit=limit)
    if words.vector is not None:
        cases |= _near_in_meaning(user, reports, words, limit=limit)
    if not is_cut:
        return cases, []
    notice = f"More than {MATCHES_MOST:,} reports have these words; as many were compared."
    return cases, [f"{notice} A further word or a filter finds better."]


def _by_words(
    user: Any, reports: QuerySet[Report], words: TextPart, *, limit: int
) -> tuple[set[UUID], bool]:
    """Return the cases of the best of these reports by their words, and whether some were left.

    First from the table of words alone, which knows whose they are. Only where too few of what
    that found answer, the reports are part of the statement.
    """

    def best(keys: list[UUID]) -> set[UUID]:
        among = words.match.matching(reports.filter(AnyOf("pk", keys[:MATCHES_MOST])))
        return set(among.order_by("-_rank", "pk").values_list("case_id", flat=True)[:limit])

    most = MATCHES_MOST + 1
    departments = departments_of(user)
    alone = words.match.matching_words(ReportWords.objects.filter(department__in=departments))
    if nothing_is_shared(departments) and alone is not None:
        keys = list(alone.order_by().values_list("pk", flat=True)[:most])
        cases = best(keys)
        if len(keys) < most or len(cases) >= limit:
            return cases, len(keys) == most
    with postgres_set(reports.db, enable_hashjoin="off"):  # the LIMIT ends it early
        keys = list(words.match.matching(reports).order_by().values_list("pk", flat=True)[:most])
    return best(keys), len(keys) == most


def _near_in_meaning(
    user: Any, reports: QuerySet[Report], words: TextPart, *, limit: int
) -> set[UUID]:
    """Return the cases of those of these reports that are nearest in meaning.

    First the nearest of all reports in sight, twice as many: nearly all of them answer, and no
    table has to be joined. Only where too few do, the reports are part of the statement.
    """
    embeddings = ReportEmbedding.objects.visible_to(user)
    asked = {"model": words.model, "vector": words.vector, "key": "report_id"}
    near = embeddings.nearest(limit=2 * limit, **asked)
    keys = [neighbour.key for neighbour in near]
    cases = _cases_of(reports, keys)
    if len(cases) < limit and len(near) >= 2 * limit:
        near = embeddings.filter(report__in=reports).nearest(limit=limit, **asked)
        keys = [neighbour.key for neighbour in near]
        cases = _cases_of(reports, keys)
    return {cases[key] for key in [key for key in keys if key in cases][:limit]}


def _cases_of(reports: QuerySet[Report], keys: list[UUID]) -> dict[UUID, UUID]:
    rows = reports.filter(AnyOf("pk", keys)).order_by()
    return dict(binary_rows(rows.values_list("pk", "case_id")))


def text_score(user: Any, case_ids: set[UUID], words: TextPart) -> dict[UUID, TextScore]:
    """Return how well the current reports of these cases answer, by case."""
    reports = _current_reports(user, words).filter(AnyOf("case_id", case_ids))
    judged = words.match.judged(reports).order_by()
    rows = binary_rows(judged.values_list("pk", "case_id", "_rank", "_against"))
    similar: dict[UUID, float] = {}
    if words.vector is not None:
        similar = ReportEmbedding.objects.visible_to(user).similarities(
            model=words.model,
            vector=words.vector,
            keys=[pk for pk, *_judged in rows],
            key="report_id",
        )
    return {
        case: TextScore(rank, round(float(similar[pk]), 5) if pk in similar else None, against)
        for pk, case, rank, against in rows
        if rank is not None or pk in similar
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
