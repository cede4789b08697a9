"""Addresses of the crops that show why something matched, and of their places in the viewer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

from django.urls import reverse

from cases.models import SlideImage
from retrieval.models import SearchQuery
from retrieval.selectors import ResultHit

PAIR_PX = 192
QUERY_PX = 640
PAIRS_OPEN = 3


@dataclass(frozen=True)
class Crop:
    """A picture, and where in the viewer it lies ("" when it is of no slide)."""

    src: str
    href: str


@dataclass(frozen=True)
class Pair:
    """A patch of the query beside the patch it matched, both of the same width in µm."""

    query: Crop
    candidate: Crop
    similarity: float
    query_share: float
    candidate_share: float


@dataclass(frozen=True)
class Box:
    """A matched place on the whole slide, in level-0 pixels, with the number of its pair."""

    number: int
    x: int
    y: int
    side: int


@dataclass(frozen=True)
class ShownHit:
    """A hit with its pairs, their places on the slide, and what makes it weak evidence."""

    result: ResultHit
    pairs: list[Pair]
    boxes: list[Box]
    weak: list[str]

    @property
    def more_pairs(self) -> int:
        """Return how many pairs are folded away."""
        return max(0, len(self.pairs) - PAIRS_OPEN)


def with_pairs(
    query: SearchQuery, hits: Iterable[ResultHit], weak: Mapping[UUID, list[str]] | None = None
) -> list[ShownHit]:
    """Return the hits with the addresses of their matched patches.

    weak: why slide images are weak evidence, by slide image.
    """
    return [
        ShownHit(
            result,
            [
                Pair(
                    query=_query_patch(query, pair["query"]),
                    candidate=slide_crop(result.slide_image.pk, _square(pair["candidate"])),
                    similarity=pair["similarity"],
                    query_share=100 * pair["query"].get("share", 0),
                    candidate_share=100 * pair["candidate"].get("share", 0),
                )
                for pair in result.hit.pairs
            ],
            boxes=[
                Box(number, *_square(pair["candidate"])[:3])
                for number, pair in enumerate(result.hit.pairs[:PAIRS_OPEN], start=1)
            ],
            weak=(weak or {}).get(result.slide_image.pk, []),
        )
        for result in hits
    ]


def slide_crop(pk, box: tuple[int, int, int, int], size: int = PAIR_PX) -> Crop:
    """Return the crop of a slide at this box (x, y, width, height in level-0 pixels)."""
    x, y, width, height = box
    x, y = max(0, x), max(0, y)
    asked = urlencode({"x": x, "y": y, "width": width, "height": height, "size": size})
    return Crop(
        src=f"{reverse('slide_region', args=[pk])}?{asked}",
        href=f"{reverse('slide', args=[pk])}#l0={x},{y},{width},{height}",
    )


def whole_slide(slide_image: SlideImage) -> Crop:
    """Return the thumbnail of a slide."""
    pk = slide_image.pk
    return Crop(reverse("slide_thumbnail", args=[pk]), reverse("slide", args=[pk]))


def query_crop(query: SearchQuery) -> Crop | None:
    """Return the tissue that was asked by: the slide's thumbnail, its region, the picture."""
    if query.region:
        region = query.region
        box = (region["x_l0"], region["y_l0"], region["width_l0"], region["height_l0"])
        return slide_crop(query.slide_image_id, box, QUERY_PX)
    if query.slide_image:
        return whole_slide(query.slide_image)
    if query.image_jpeg:
        return Crop(f"{reverse('search_image', args=[query.pk])}?size={QUERY_PX}", "")
    return None


def _query_patch(query: SearchQuery, place: dict[str, float]) -> Crop:
    if query.slide_image_id:
        return slide_crop(query.slide_image_id, _square(place))
    x, y, width, height = _square(place)
    asked = urlencode({"x": x, "y": y, "width": width, "height": height, "size": PAIR_PX})
    return Crop(f"{reverse('search_image', args=[query.pk])}?{asked}", "")


def _square(place: dict[str, float]) -> tuple[int, int, int, int]:
    side = int(place["size_l0"])
    return int(place["x_l0"]), int(place["y_l0"]), side, side
