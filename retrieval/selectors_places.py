"""Where a slide's kinds of tissue lie, and where two slides matched, as a reader sees them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import Http404

from cases.models import SlideImage
from retrieval import selectors
from retrieval.models import SearchHit, SlideEmbedding


@dataclass(frozen=True)
class Match:
    """A pair of places that were found alike, by slide image: x, y, side in level-0 pixels."""

    number: int
    similarity: float
    places: dict[str, list[int]]


def slide_places(user: Any, slide_image: SlideImage) -> list[dict[str, float]]:
    """Return the places of the active model's tokens, most tissue first; none before indexing.

    token: which one it is, as explanations count them.
    """
    embedding = (
        SlideEmbedding.objects.visible_to(user)
        .filter(slide_image=slide_image, model__is_active=True)
        .only("places")
        .first()
    )
    places = embedding.places if embedding else []
    numbered = [{**place, "token": number} for number, place in enumerate(places)]
    return sorted(numbered, key=lambda place: -place["share"])


def matches_between(user: Any, search: UUID, rank: int) -> tuple[list[UUID], list[Match]]:
    """Return the two slide images of an answer by a slide, and where they matched.

    rank: as the reader sees it. Hidden, missing, and an answer that is of no slide: Http404.
    """
    query = selectors.search_visible_or_404(user, search)
    hits = SearchHit.objects.visible_to(user).filter(query=query).order_by("rank")
    hit = hits[rank - 1 : rank].first() if rank > 0 else None
    if hit is None or query.slide_image_id is None:
        raise Http404("no such answer")
    asked, found = str(query.slide_image_id), str(hit.slide_image_id)
    matches = [
        Match(
            number,
            pair["similarity"],
            {asked: _square(pair["query"]), found: _square(pair["candidate"])},
        )
        for number, pair in enumerate(hit.pairs, start=1)
    ]
    return [query.slide_image_id, hit.slide_image_id], matches


def _square(place: dict[str, float]) -> list[int]:
    return [int(place["x_l0"]), int(place["y_l0"]), int(place["size_l0"])]
