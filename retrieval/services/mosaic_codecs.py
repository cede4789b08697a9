"""The codec of a model's mosaics: fitted once there are slides enough, then every row follows.

Until then tokens are kept as float16 and slides are found by their vectors alone. A small
archive needs no more: there, each slide is compared.
"""

import logging
from typing import Any

import numpy as np
from django.conf import settings
from django.db import transaction

from retrieval.codecs import codec_id_of_model, codec_of
from retrieval.engine.mosaic import tokens_from_bytes
from retrieval.engine.token_codec import FIDELITY, fit_token_codec
from retrieval.models import EmbeddingModel, MosaicCodec, SlideEmbedding
from retrieval.models_codec import CELLS_PER_CODEC
from retrieval.services.models import Modality, models_lock

log = logging.getLogger(__name__)

# 4,000 slides are 64,000 tokens: 250 for each of 256 centroids.
SAMPLE_SLIDES = 4_000
BATCH = 200


def coded(model: EmbeddingModel, tokens: np.ndarray) -> dict[str, Any]:
    """Return the fields of an embedding that hold its tokens (M, D)."""
    codec_id = codec_id_of_model(model)
    whole = {"mosaic": tokens.astype("<f2").tobytes(), "codec_id": None}
    if codec_id is None:
        return whole | {"cells": []}
    codec = codec_of(codec_id)
    cells = (codec_id * CELLS_PER_CODEC + codec.cells(tokens)).tolist()
    if codec.fidelity(tokens).min() < FIDELITY:
        return whole | {"cells": cells}  # tissue that the codec does not know: found, and whole
    return {"mosaic": codec.encode(tokens), "codec_id": codec_id, "cells": cells}


def codec_fit(*, model: EmbeddingModel, least: int | None = None) -> MosaicCodec | None:
    """Fit the model's codec to a sample of its slides; None while there are too few.

    least: slides that are enough; settings.MOSAIC_CODEC_SLIDES unless given.
    """
    least = settings.MOSAIC_CODEC_SLIDES if least is None else least
    rows = SlideEmbedding.objects.filter(model=model, codec=None)
    if codec_id_of_model(model) is not None or not rows.order_by()[least - 1 : least].exists():
        return None
    # Slide image ids are random: the first of them are a fair sample.
    sample = rows.order_by("slide_image_id").values_list("mosaic", flat=True)[:SAMPLE_SLIDES]
    mosaics = [tokens_from_bytes(bytes(data), model.token_width) for data in sample]
    fitted = fit_token_codec(np.concatenate(mosaics))
    with transaction.atomic():
        models_lock()
        if MosaicCodec.objects.filter(model=model).exists():
            return None
        row = MosaicCodec.objects.create(
            model=model,
            payload=fitted.to_bytes(),
            sha256=fitted.sha256,
            fitted_to_slides=len(mosaics),
        )
    log.info("Fitted the mosaic codec of model %s to %d slides", model.pk, len(mosaics))
    return row


def mosaics_code(*, model: EmbeddingModel, most: int | None = None) -> int:
    """Code the mosaics of a model that wait for it, some at a time; returns how many.

    Safe beside indexing, beside itself and to be killed: each batch is one transaction, and a
    row that someone else writes is left to them.
    """
    if codec_id_of_model(model) is None:
        return 0
    done = 0
    while most is None or done < most:
        with transaction.atomic():
            rows = list(
                SlideEmbedding.objects.select_for_update(skip_locked=True)
                .filter(model=model, codec=None, cells=[])
                .order_by()[:BATCH]
                .only("pk", "mosaic")
            )
            for row in rows:
                tokens = tokens_from_bytes(bytes(row.mosaic), model.token_width)
                for name, value in coded(model, tokens).items():
                    setattr(row, name, value)
            SlideEmbedding.objects.bulk_update(rows, ["mosaic", "codec", "cells"])
        if not rows:
            break
        done += len(rows)
    return done


def codecs_keep(*, most: int = 20_000) -> int:
    """Fit and follow up, for the models in use; returns how many mosaics were coded."""
    done = 0
    for model in EmbeddingModel.objects.filter(modality=Modality.IMAGE):
        codec_fit(model=model)
        done += mosaics_code(model=model, most=most)
    return done
