"""From a question to its ranked answers: candidates, exact comparison, fusion; each stage timed.

Candidates come from three places: the slide vectors, the tokens (a small focus on a slide that is
otherwise ordinary sways its vector little, but has a cell of its own), and the words. Each is one
statement with `visible_to` and the filters before its LIMIT. Then all are compared exactly.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from cases.models import SlideImage
from retrieval.binary_rows import binary_rows
from retrieval.codecs import codec_id_of_model, codec_of
from retrieval.engine.ranking import competition_ranks, reciprocal_rank_fusion
from retrieval.engine.search_plan import COMPARE_ALL
from retrieval.engine.token_codec import Probe
from retrieval.filters import SearchFilters, slides_of_person
from retrieval.models import SearchHit, SlideEmbedding
from retrieval.models_codec import CELLS_PER_CODEC
from retrieval.querysets import AnyOf, StoredMosaic
from retrieval.querysets_planned import costs_of
from retrieval.services.comparing import Comparison, compare_mosaics, place_shares
from retrieval.services.query_mosaics import ImagePart
from retrieval.services.refining import Refinement
from retrieval.services.text_search import (
    TextPart,
    TextScore,
    slides_near_words,
    text_nearest,
    text_score,
    words_to_slides,
)

# Slides taken from the slide vectors to be compared mosaic by mosaic: as many as are all compared
# in a small scope. Of a million slides, 200 held 0.60 of the ten nearest by mosaic.
CANDIDATES = COMPARE_ALL
TOKEN_CANDIDATES = 200
TEXT_CANDIDATES = 200
# Largest share of all tokens in the cells that one question probes, and about how many tokens
# that should be: more are weighed for longer than anyone would wait.
PROBED_SHARE, PROBED_TOKENS = 0.002, 2400


# All of them, in their order; a search has those that it needs.
STAGES = (
    "encode",
    "plan",
    "vectors",
    "tokens",
    "words",
    "words_to_tissue",
    "candidates",
    "compare",
    "score_words",
)


class StageClock:
    """Seconds of each stage of one search, and how its candidates were found."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.stages: dict[str, Any] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of this block to the stage."""
        before = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - before
            self.stages[name] = round(self.stages.get(name, 0.0) + spent, 5)

    @property
    def seconds(self) -> float:
        """Return the seconds since the search began."""
        return time.perf_counter() - self._started


@dataclass
class Evidence:
    """What is known of one candidate. case_id: where words are asked."""

    case_id: UUID | None = None
    image_similarity: float | None = None
    image_order: float | None = None  # the similarity, or what marks made of it
    comparison: Comparison | None = None
    text: TextScore | None = None
    words_to_tissue: float | None = None


@dataclass(frozen=True)
class Scope:
    """The slides that may answer: visible to the user, filtered, of other people."""

    user: Any
    filters: SearchFilters
    part: ImagePart | None
    include_same_patient: bool
    words: TextPart | None = None

    def _condition(self, prefix: str) -> Q:
        condition = self.filters.condition(self.user, prefix=prefix)
        if self._left_out:
            condition &= ~Q(**{f"{prefix}pk__in": self._left_out})
        if self.part and self.words:
            condition &= self.words.condition(self.user, prefix)
        return condition

    @cached_property
    def _left_out(self) -> list[UUID]:
        """Return the slide that asks, and those of the same person."""
        if self.part is None or self.part.slide_image is None:
            return []
        left_out = {self.part.slide_image.pk}
        if self.part.patient and not self.include_same_patient:
            person = slides_of_person(self.user, self.part.patient)
            left_out |= set(person.values_list("pk", flat=True))
        return sorted(left_out)

    def slide_images(self) -> QuerySet[SlideImage]:
        return SlideImage.objects.visible_to(self.user).filter(self._condition(""))

    def embeddings(self) -> QuerySet[SlideEmbedding]:
        return SlideEmbedding.objects.visible_to(self.user).filter(self._condition("slide_image__"))


def evidence_gather(
    scope: Scope,
    part: ImagePart | None,
    words: TextPart | None,
    refinement: Refinement | None,
    clock: StageClock,
) -> dict[UUID, Evidence]:
    """Return what is known of every candidate of either part, each compared in both."""
    near: dict[UUID, StoredMosaic] = {}
    slide_ids: set[UUID] = set()
    case_ids: set[UUID] = set()
    if part:
        slide_ids, near = _tissue_candidates(scope, part, refinement, clock)
    if words:
        with clock.stage("words"):
            case_ids, notice = text_nearest(
                scope.user, scope.slide_images(), words, limit=TEXT_CANDIDATES
            )
            words.notices.extend(line for line in notice if line not in words.notices)
        with clock.stage("words_to_tissue"):
            slide_ids |= slides_near_words(
                scope.user, scope.embeddings(), words, limit=TEXT_CANDIDATES
            )
        with clock.stage("candidates"):
            found = _with_cases(scope, slide_ids, case_ids)
    else:
        # Each statement that found them had the whole scope, and their cases are not asked for.
        found = {pk: Evidence() for pk in sorted(slide_ids)}
    if part and found:
        with clock.stage("compare"):
            _compare(scope, part, found, near, refinement)
    if words and found:
        with clock.stage("score_words"):
            _score_words(scope, words, found)
    clock.stages["compared"] = len(found)
    return found


def _with_cases(scope: Scope, slide_ids: set[UUID], case_ids: set[UUID]) -> dict[UUID, Evidence]:
    """Return the slide images of either, in scope, with their cases."""
    slide_images = scope.slide_images().order_by()
    # Two statements: a condition on either has no index.
    rows = []
    for condition in (AnyOf("pk", slide_ids), AnyOf("slide__case_id", case_ids)):
        rows += binary_rows(slide_images.filter(condition).values_list("pk", "slide__case_id"))
    return {pk: Evidence(case_id) for pk, case_id in sorted(rows)}


def _tissue_candidates(
    scope: Scope, part: ImagePart, refinement: Refinement | None, clock: StageClock
) -> tuple[set[UUID], dict[UUID, StoredMosaic]]:
    """Return the slides near by their vectors, and those that share rare tissue.

    With the mosaics that were read on the way: of the near ones, as far as `part` itself and not
    its marks say what near is.
    """
    with clock.stage("plan"):
        seen = SlideEmbedding.objects.visible_to(scope.user)
        aim = refinement.moved_part(seen, part) if refinement else part
        plan = scope.embeddings().plan(model=part.model, limit=CANDIDATES)
        clock.stages |= {"way": plan.way, "ef_search": plan.ef_search, "estimated": plan.rows}
    asked = {"model": part.model, "vector": aim.mosaic.slide_vector, "limit": CANDIDATES}
    asked["plan"] = plan
    mosaics: dict[UUID, StoredMosaic] = {}
    with clock.stage("vectors"):
        if aim is part:
            mosaics = scope.embeddings().nearest_mosaics(**asked)
            found = set(mosaics)
        else:
            near = scope.embeddings().nearest(key="slide_image_id", **asked)
            found = {neighbour.key for neighbour in near}
    if len(found) < plan.limit:
        return found, mosaics  # that was every slide
    with clock.stage("tokens"):
        found |= set(
            scope.embeddings()
            .filter(model=part.model)
            .sharing_cells(probes=_probes(part), limit=TOKEN_CANDIDATES)
        )
    return found, mosaics


def _probes(part: ImagePart) -> list[Probe]:
    """Return the cells to look for.

    How common a cell is was estimated when the codec was fitted, and is part of the codec: it
    is the same for every reader and does not change with what any of them may not see.
    """
    codec_id = codec_id_of_model(part.model)
    if codec_id is None:
        return []
    mosaic = part.mosaic
    # How large the archive was when its costs were measured: no row of today changes it.
    tokens = costs_of(part.model).slides * part.model.token_count
    found = codec_of(codec_id).probes(
        mosaic.tokens,
        place_shares(mosaic.places),
        expected=min(PROBED_SHARE, PROBED_TOKENS / tokens),
    )
    base = codec_id * CELLS_PER_CODEC
    return [Probe(tuple(base + cell for cell in probe.cells), probe.weight) for probe in found]


def _score_words(scope: Scope, words: TextPart, found: dict[UUID, Evidence]) -> None:
    scores = text_score(scope.user, {e.case_id for e in found.values() if e.case_id}, words)
    for evidence in found.values():
        evidence.text = scores.get(evidence.case_id)
    for pk, similarity in words_to_slides(scope.user, scope.embeddings(), words, found).items():
        found[pk].words_to_tissue = similarity


def _compare(
    scope: Scope,
    part: ImagePart,
    found: dict[UUID, Evidence],
    near: dict[UUID, StoredMosaic],
    refinement: Refinement | None,
) -> None:
    compared = compare_mosaics(scope.embeddings(), part, found, near)
    for pk, comparison in compared.items():
        found[pk].image_similarity = found[pk].image_order = comparison.similarity
        found[pk].comparison = comparison
    if refinement:
        similarities = {pk: comparison.similarity for pk, comparison in compared.items()}
        seen = SlideEmbedding.objects.visible_to(scope.user)
        for pk, score in refinement.scores(seen, part.model, similarities).items():
            found[pk].image_order = score


def evidence_fused(
    found: dict[UUID, Evidence], *, image_weight: float, text_weight: float, limit: int
) -> list[SearchHit]:
    """Return the best hits, best first, with their ranks in each part."""
    by_image = competition_ranks(
        {pk: e.image_order for pk, e in found.items() if e.image_order is not None}
    )
    by_text = _text_ranks(found)
    scores = reciprocal_rank_fusion([(by_image, image_weight), (by_text, text_weight)])
    order = sorted(scores, key=lambda pk: (-scores[pk], -(found[pk].image_order or -1), pk))
    return [
        SearchHit(
            rank=rank,
            slide_image_id=pk,
            score=scores[pk],
            image_similarity=found[pk].image_similarity,
            image_rank=by_image.get(pk),
            text_rank=by_text.get(pk),
            text_similarity=found[pk].text.similarity if found[pk].text else None,
            tissue_text_similarity=found[pk].words_to_tissue,
            full_text_match=bool(found[pk].text and found[pk].text.full_text_rank is not None),
            pairs=found[pk].comparison.pairs if found[pk].comparison else [],
        )
        for rank, pk in enumerate(order[:limit], start=1)
    ]


def _text_ranks(found: dict[UUID, Evidence]) -> dict[UUID, int]:
    """Return ranks by words, meaning and tissue together; slides of a case share the first two."""
    texts = {e.case_id: e.text for e in found.values() if e.text}
    by_words = competition_ranks(
        {case: t.full_text_rank for case, t in texts.items() if t.full_text_rank is not None}
    )
    by_meaning = competition_ranks(
        {case: t.similarity for case, t in texts.items() if t.similarity is not None}
    )
    by_tissue = competition_ranks(
        {pk: e.words_to_tissue for pk, e in found.items() if e.words_to_tissue is not None}
    )
    # "No evidence of carcinoma" is near in meaning to "carcinoma", and the last to answer it.
    against = {case for case, text in texts.items() if text.contradicts}
    if not by_tissue:
        fused = reciprocal_rank_fusion([(by_words, 1.0), (by_meaning, 1.0)])
        by_case = competition_ranks({c: score - (c in against) for c, score in fused.items()})
        return {pk: by_case[e.case_id] for pk, e in found.items() if e.case_id in by_case}
    parts = [
        {pk: ranks[e.case_id] for pk, e in found.items() if e.case_id in ranks}
        for ranks in (by_words, by_meaning)
    ]
    fused = reciprocal_rank_fusion([(part, 1.0) for part in (*parts, by_tissue)])
    return competition_ranks(
        {pk: score - (found[pk].case_id in against) for pk, score in fused.items()}
    )
