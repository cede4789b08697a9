"""More like this, less like this: an answer ordered anew by its reader's own marks."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import numpy as np
from django.core.exceptions import PermissionDenied

from cases.permissions import departments_with
from retrieval.engine.relevance import rocchio_scores, rocchio_vector
from retrieval.models import EmbeddingModel, Feedback, ReportEmbedding, SearchHit, SearchQuery
from retrieval.querysets import SlideEmbeddingQuerySet
from retrieval.services.comparing import compare_mosaics
from retrieval.services.query_mosaics import ImagePart, QueryRefused
from retrieval.services.text_search import TextPart

MARKS_MOST = 20  # of each kind, the best ranked; each is one more comparison


@dataclass(frozen=True)
class Refinement:
    """The marked slide images of a question that its reader sees."""

    query: SearchQuery
    relevant: tuple[UUID, ...]
    irrelevant: tuple[UUID, ...]

    @property
    def notice(self) -> str:
        """Return what a reader of the answer must know."""
        return (
            f"Moved by marks: {len(self.relevant)} relevant, {len(self.irrelevant)} not relevant."
        )

    def moved_part(self, embeddings: SlideEmbeddingQuerySet, part: ImagePart) -> ImagePart:
        """Return the tissue of the question moved by the marks, to look for candidates by.

        embeddings: those that the reader sees.
        """
        vectors = dict(
            embeddings.filter(
                model=part.model, slide_image__in=(*self.relevant, *self.irrelevant)
            ).values_list("slide_image_id", "vector")
        )
        moved = rocchio_vector(
            part.mosaic.slide_vector,
            _rows(vectors, self.relevant, part.model.dimension),
            _rows(vectors, self.irrelevant, part.model.dimension),
        )
        return replace(part, mosaic=replace(part.mosaic, slide_vector=moved))

    def scores(
        self,
        embeddings: SlideEmbeddingQuerySet,
        model: EmbeddingModel,
        similarities: dict[UUID, float],
    ) -> dict[UUID, float]:
        """Return what the candidates are ordered by: near the relevant, far from the others."""
        order = sorted(similarities, key=str)
        if not order:
            return {}
        parts = [
            self._similar(embeddings, model, ids, order) for ids in (self.relevant, self.irrelevant)
        ]
        base = np.array([similarities[pk] for pk in order], dtype=np.float64)
        scores = rocchio_scores(base, *parts)
        return {pk: round(float(score), 5) for pk, score in zip(order, scores, strict=True)}

    @staticmethod
    def _similar(
        embeddings: SlideEmbeddingQuerySet,
        model: EmbeddingModel,
        marked: Collection[UUID],
        order: list[UUID],
    ) -> np.ndarray:
        rows = []
        found = embeddings.filter(model=model, slide_image__in=marked).order_by("slide_image_id")
        found = found.select_related("model")
        for embedding in found:
            part = ImagePart(model, embedding.as_mosaic(), True)
            compared = compare_mosaics(embeddings, part, order)
            rows.append([compared[pk].similarity for pk in order])
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(order))

    def moved_words(self, user: Any, words: TextPart) -> TextPart:
        """Return the words with their vector among reports moved by the marked reports."""
        if words.vector is None or words.model is None:
            return words
        marked = (*self.relevant, *self.irrelevant)
        vectors = dict(
            ReportEmbedding.objects.visible_to(user)
            .filter(
                model=words.model,
                report__is_current=True,
                report__case__slides__images__in=marked,
            )
            .values_list("report__case__slides__images", "vector")
        )
        moved = rocchio_vector(
            words.vector,
            _rows(vectors, self.relevant, words.model.dimension),
            _rows(vectors, self.irrelevant, words.model.dimension),
        )
        return replace(words, vector=moved)


def _rows(vectors: dict[UUID, Any], ids: Collection[UUID], dimension: int) -> np.ndarray:
    rows = [np.asarray(vectors[pk], dtype=np.float32) for pk in ids if pk in vectors]
    return np.stack(rows) if rows else np.zeros((0, dimension), np.float32)


def refinement_of(user: Any, query: SearchQuery) -> Refinement:
    """Return the reader's own marks on those answers that they still see, or refuse."""
    if not departments_with(user, "give_feedback"):
        raise PermissionDenied("Your role does not allow giving feedback.")
    hits = SearchHit.objects.visible_to(user).filter(query=query)
    marks = list(
        Feedback.objects.filter(user=user, hit__in=hits)
        .order_by("hit__rank")
        .values_list("verdict", "hit__slide_image_id")
    )
    kinds = {
        kind: tuple(pk for verdict, pk in marks if verdict == kind)[:MARKS_MOST]
        for kind in Feedback.Verdict.values
    }
    if not marks:
        raise QueryRefused(
            "Nothing is marked: say of some answers whether they are relevant, then ask again.",
            code="nothing_marked",
        )
    return Refinement(query, kinds[Feedback.Verdict.RELEVANT], kinds[Feedback.Verdict.NOT_RELEVANT])
