"""The centre of a model's features: the shipped one, and one fitted to the site's archive."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from django.db import transaction
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from cases.demo.tissue import DIAGNOSES, paint_tissue
from cases.errors import DomainError
from retrieval.engine.aggregators import TRAINED
from retrieval.engine.encoders import ImageEncoder
from retrieval.engine.mosaic import prototypes
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideIndex
from retrieval.services.aggregation import model_centre
from retrieval.services.features import features_read
from retrieval.services.indexing import embedding_write
from retrieval.services.models import model_register, models_lock
from retrieval.services.switching import model_activate

State = SlideIndex.State
# A mean over fewer slides says more about them than about the archive.
MIN_SLIDES = 10


class TooFewSlides(DomainError):
    """The archive holds too little to fit anything to it."""

    http_status = 409
    code = "too_few_slides"


def procedural_patches(patch_px: int, *, seeds: range) -> Iterator[np.ndarray]:
    """Yield uint8 (n, P, P, 3) patches of synthetic tissue: every pattern, stain and scanner."""
    side = 4 * patch_px
    for seed in seeds:
        for diagnosis in DIAGNOSES:
            tissue = paint_tissue(diagnosis, seed, (side, side), full_bleed=True)
            grid = tissue.reshape(4, patch_px, 4, patch_px, 3).swapaxes(1, 2)
            yield grid.reshape(16, patch_px, patch_px, 3)


def procedural_centre(encoder: ImageEncoder, *, seeds: range) -> np.ndarray:
    """Return the float32 (D,) mean of an encoder's features over synthetic tissue."""
    total, count = np.zeros(encoder.spec.dimension), 0
    for patches in procedural_patches(encoder.spec.patch_px, seeds=seeds):
        total += encoder.encode(patches).sum(0, dtype=np.float64)
        count += len(patches)
    return (total / count).astype(np.float32)


def centre_write(path: Path, centre: np.ndarray, *, description: str) -> None:
    """Write a centre as a safetensors asset."""
    data = save({"centre": centre.astype(np.float32)}, metadata={"description": description})
    path.write_bytes(data)


def centre_read(path: Path) -> np.ndarray:
    """Return the float32 (D,) centre of a file that `centre_write` wrote. Raises DomainError."""
    try:
        centre = load_file(path)["centre"]
    except (OSError, SafetensorError, KeyError) as error:
        raise DomainError(f"{path} holds no centre.", code="centre_unreadable") from error
    return centre.astype(np.float32).ravel()


def archive_centre(model: EmbeddingModel) -> tuple[np.ndarray, int]:
    """Return the float32 (D,) mean over the archive's slides, each counted once, and how many."""
    total, count = np.zeros(model.dimension), 0
    paths = SlideIndex.objects.filter(model=model, state=State.INDEXED).values_list(
        "features_path", flat=True
    )
    for path in paths.iterator():
        total += features_read(path).features.mean(0, dtype=np.float64)
        count += 1
    if count < MIN_SLIDES:
        raise TooFewSlides(
            f"{count} slides are indexed by {model.name}; at least {MIN_SLIDES} are needed."
        )
    return (total / count).astype(np.float32), count


def recentre(
    *, model: EmbeddingModel, name: str, tell: Callable[[str], None] = lambda text: None
) -> EmbeddingModel:
    """Return a new active model like `model`, centred on this archive.

    Every slide is aggregated anew from its stored features; no pixel is read. Searches go on
    with the old model until the new one has all its rows, and change over in one commit.
    """
    if model.aggregator in TRAINED:
        raise DomainError(
            f"{model.name} is a trained model, which has no centre to fit. Activate a model of "
            "prototypes first.",
            code="not_prototypes",
        )
    centre, count = archive_centre(model)
    new = model_register(
        like=model,
        name=name,
        centre=centre,
        description=f"{model.name}, centred on the mean of {count} slides of this archive.",
    )
    tell(f"registered {name}, centred on {count} slides")
    try:
        aggregate_missing(new, source=model, tell=tell)
        with transaction.atomic():
            # What was indexed meanwhile; the lock keeps this the last look.
            models_lock()
            aggregate_missing(new, source=model, tell=tell)
            model_activate(model=new)
    except Exception:
        # Half a model is none: the old one was active all the time.
        SlideEmbedding.objects.filter(model=new).delete()
        SlideIndex.objects.filter(model=new).delete()
        new.delete()
        raise
    return new


def aggregate_missing(
    new: EmbeddingModel, *, source: EmbeddingModel, tell: Callable[[str], None]
) -> int:
    """Aggregate by `new` every slide that `source` has indexed and `new` has not."""
    have = SlideIndex.objects.filter(model=new).values("slide_image_id")
    todo = (
        SlideIndex.objects.filter(model=source, state=State.INDEXED)
        .exclude(slide_image_id__in=have)
        .select_related("slide_image")
    )
    done = 0
    for index in todo:
        stored = features_read(index.features_path)
        mosaic = prototypes(
            stored.features,
            stored.coords_l0,
            stored.size_l0,
            token_count=new.token_count,
            centre=model_centre(new),
        )
        with transaction.atomic():
            embedding_write(slide_image=index.slide_image, model=new, mosaic=mosaic)
            SlideIndex.objects.create(
                department_id=index.department_id,
                slide_image=index.slide_image,
                model=new,
                state=State.INDEXED,
                patch_count=index.patch_count,
                features_path=index.features_path,
                finished_at=index.finished_at,
            )
        done += 1
        if done % 100 == 0:
            tell(f"{done} slides aggregated")
    tell(f"{done} slides aggregated")
    return done
