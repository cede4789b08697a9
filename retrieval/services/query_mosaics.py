"""The image part of a question: a slide, a region of one, or a picture, as a mosaic."""

from dataclasses import dataclass, field

import numpy as np

from cases.errors import DomainError
from cases.models import Patient, SlideImage
from cases.services.slide_readers import slide_reader
from retrieval.engine.encoders import IMAGE_ENCODERS
from retrieval.engine.errors import EngineError, SkipSlide
from retrieval.engine.mosaic import Mosaic, tokens_from_bytes
from retrieval.engine.patches import Patches, query_patches, region_patches
from retrieval.models import EmbeddingModel, SearchQuery, SlideEmbedding, SlideIndex
from retrieval.services.aggregation import AggregatorUnavailable, model_aggregator
from retrieval.services.query_encoding import encode_patches
from retrieval.services.query_images import QueryImage, query_image_copy, query_image_decode

# A question is answered while somebody waits: at most this many patches are encoded for it.
QUERY_MAX_PATCHES = 64
REGION_MIN_SIDE_L0 = 16
# Fewer tokens than this say little about tissue; the reader is told.
FEW_TOKENS = 4


class QueryRefused(DomainError):
    """The question cannot be answered as it is; `code` names the reason."""

    code = "query_refused"


@dataclass(frozen=True)
class Region:
    """A box on a slide in level-0 pixels."""

    x_l0: int
    y_l0: int
    width_l0: int
    height_l0: int

    def clipped(self, slide_image: SlideImage) -> "Region":
        """Return the part that lies on the slide, or refuse."""
        left, top = max(0, self.x_l0), max(0, self.y_l0)
        right = min(slide_image.width_l0, self.x_l0 + self.width_l0)
        bottom = min(slide_image.height_l0, self.y_l0 + self.height_l0)
        if self.width_l0 <= 0 or self.height_l0 <= 0 or right <= left or bottom <= top:
            raise QueryRefused(
                "The region lies outside of the slide or has no area.", code="region_outside"
            )
        if min(right - left, bottom - top) < REGION_MIN_SIDE_L0:
            raise QueryRefused(
                f"The region is smaller than {REGION_MIN_SIDE_L0} pixels on a side.",
                code="region_too_small",
            )
        return Region(left, top, right - left, bottom - top)

    def to_json(self) -> dict[str, int]:
        """Return the box as a query stores it."""
        return dict(vars(self))


@dataclass(frozen=True)
class ImagePart:
    """What the image part of a question is compared by, and where it came from.

    whole_slide: compared both ways; a region or a picture is only looked for in a slide.
    """

    model: EmbeddingModel
    mosaic: Mosaic
    whole_slide: bool
    slide_image: SlideImage | None = None
    region: Region | None = None
    image_jpeg: bytes = b""
    image_mpp: float | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def patient(self) -> Patient | None:
        """Return whose tissue it is, where that is known."""
        return self.slide_image.slide.case.patient if self.slide_image else None


def image_part_of_slide(model: EmbeddingModel, slide_image: SlideImage) -> ImagePart:
    """Return the indexed slide as a question, or refuse with what to do."""
    embeddings = SlideEmbedding.objects.select_related("model")
    embedding = embeddings.filter(slide_image=slide_image, model=model).first()
    if embedding is None:
        raise _not_indexed(model, slide_image)
    return ImagePart(model, embedding.as_mosaic(), whole_slide=True, slide_image=slide_image)


def _not_indexed(model: EmbeddingModel, slide_image: SlideImage) -> QueryRefused:
    index = SlideIndex.objects.filter(slide_image=slide_image, model=model).first()
    states = SlideIndex.State
    if index is None or index.state == states.QUEUED:
        why = "It waits to be indexed. Try again in a few minutes."
    elif index.state == states.SKIPPED:
        why = f"It was left out of the index: {index.reason}"
    elif index.state == states.FAILED:
        why = f"Indexing failed: {index.reason} Start it again on the indexing page."
    else:
        why = f"It is being indexed ({index.progress_percent} %). Try again in a few minutes."
    return QueryRefused(f"This slide cannot be searched by yet. {why}", code="slide_not_indexed")


def image_part_of_region(
    model: EmbeddingModel, slide_image: SlideImage, region: Region
) -> ImagePart:
    """Return a region of a slide as a question; its patches are read and encoded now."""
    box = region.clipped(slide_image)
    try:
        with slide_reader(slide_image) as reader:
            patches = region_patches(
                reader,
                (box.x_l0, box.y_l0, box.width_l0, box.height_l0),
                IMAGE_ENCODERS[model.encoder],
                mpp=slide_image.mpp,
                max_patches=QUERY_MAX_PATCHES,
            )
    except SkipSlide as error:
        raise QueryRefused(error.message, code=f"region_{error.code}") from error
    mosaic = _encoded(model, patches)
    return ImagePart(
        model,
        mosaic,
        whole_slide=False,
        slide_image=slide_image,
        region=box,
        notices=_few_tokens(mosaic, "region"),
    )


def image_part_of_picture(model: EmbeddingModel, data: bytes, mpp: float | None) -> ImagePart:
    """Return an uploaded PNG or JPEG as a question; places are those of the small copy kept."""
    image = query_image_decode(data, mpp)
    mosaic = _picture_mosaic(model, image)
    copy, scale = query_image_copy(image)
    scaled = [
        {
            "x_l0": round(place["x_l0"] * scale),
            "y_l0": round(place["y_l0"] * scale),
            "size_l0": max(1, round(place["size_l0"] * scale)),
            "share": place["share"],
        }
        for place in mosaic.places
    ]
    return ImagePart(
        model,
        Mosaic(mosaic.tokens, scaled, mosaic.slide_vector),
        whole_slide=False,
        image_jpeg=copy,
        image_mpp=image.mpp / scale,
        notices=_few_tokens(mosaic, "image"),
    )


def image_part_of_query(model: EmbeddingModel, query: SearchQuery) -> ImagePart | None:
    """Return the image part of an earlier question, encoded again only for another model."""
    if not query.asks_by_image:
        return None
    region = Region(**query.region) if query.region else None
    if query.image_model_id != model.pk or query.vector is None:
        if query.slide_image and region:
            return image_part_of_region(model, query.slide_image, region)
        if query.slide_image:
            return image_part_of_slide(model, query.slide_image)
        return image_part_of_picture(model, bytes(query.image_jpeg), query.image_mpp)
    mosaic = Mosaic(
        tokens_from_bytes(query.mosaic, model.token_width),
        query.places,
        np.asarray(query.vector, dtype=np.float32),
    )
    what = "region" if region else "image"
    whole_slide = query.slide_image is not None and region is None
    return ImagePart(
        model,
        mosaic,
        whole_slide=whole_slide,
        slide_image=query.slide_image,
        region=region,
        image_jpeg=bytes(query.image_jpeg),
        image_mpp=query.image_mpp,
        notices=[] if whole_slide else _few_tokens(mosaic, what),
    )


def _picture_mosaic(model: EmbeddingModel, image: QueryImage) -> Mosaic:
    try:
        patches = query_patches(
            image.rgb,
            image.mpp,
            IMAGE_ENCODERS[model.encoder],
            max_patches=QUERY_MAX_PATCHES,
        )
    except SkipSlide as error:
        raise QueryRefused(error.message, code=f"image_{error.code}") from error
    return _encoded(model, patches)


def _encoded(model: EmbeddingModel, patches: Patches) -> Mosaic:
    try:
        aggregator = model_aggregator(model)
    except EngineError as error:
        raise AggregatorUnavailable(error.message) from error
    features = encode_patches(model, patches.pixels)
    return aggregator.embed(features, patches.coords_l0, patches.size_l0)


def _few_tokens(mosaic: Mosaic, what: str) -> list[str]:
    count = len(mosaic.tokens)
    if count >= FEW_TOKENS:
        return []
    patches = "one patch" if count == 1 else f"{count} patches"
    return [f"The {what} is small: the comparison rests on {patches} of tissue."]
