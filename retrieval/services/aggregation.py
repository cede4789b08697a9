"""Patch features into the vectors of an embedding model: prototypes, or a trained file."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from django.conf import settings

from cases.errors import DomainError
from retrieval.engine.aggregators import TRAINED, Aggregator, Prototypes, load_aggregator
from retrieval.engine.errors import EngineError
from retrieval.models import EmbeddingModel
from retrieval.services.query_encoding import encode_texts_by


class AggregatorUnavailable(DomainError):
    """The trained weights of a model are missing or are not the registered ones."""

    http_status = 503
    code = "aggregator_unavailable"


def model_centre(model: EmbeddingModel) -> np.ndarray | None:
    """Return the float32 (D,) centre of an image model's features, or None."""
    return np.frombuffer(bytes(model.centre), "<f4") if model.centre else None


def model_file(model: EmbeddingModel) -> Path:
    """Return where the trained weights of a model lie."""
    return Path(settings.DATA_DIR) / model.aggregator_path


def model_aggregator(model: EmbeddingModel) -> Aggregator:
    """Return what turns features into the model's vectors.

    Raises ModelMissing or ModelCorrupt where trained weights are not what was registered.
    """
    if model.aggregator not in TRAINED:
        return Prototypes(model.dimension, model.token_count, model_centre(model))
    return _trained(
        model.aggregator,
        model_file(model),
        model.aggregator_sha256,
        model.has_text_side,
    )


@lru_cache(maxsize=4)
def _trained(kind: str, path: Path, sha256: str, text_trained: bool) -> Aggregator:
    # Kept once its bytes were checked: a file that is replaced on a running site changes nothing.
    return load_aggregator(kind, path, sha256, text_trained=text_trained)


def texts_as_slides(model: EmbeddingModel, texts: list[str]) -> np.ndarray:
    """Return float32 (n, D): where texts lie among the slide vectors of a model.

    Raises NoTextSide, UnknownWords, AggregatorUnavailable, EncoderUnavailable.
    """
    try:
        aggregator = model_aggregator(model)
    except EngineError as error:
        raise AggregatorUnavailable(error.message) from error
    return aggregator.embed_texts(texts, lambda asked: encode_texts_by(model.text_encoder, asked))
