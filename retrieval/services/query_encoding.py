"""Encoding of queries: by the encoder process, or here where none is configured."""

import threading
from functools import lru_cache

import numpy as np
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from cases.errors import DomainError
from retrieval.engine.encoder_client import EncoderClient, EncoderServerError
from retrieval.engine.encoders import (
    ImageEncoder,
    TextEncoder,
    load_image_encoder,
    load_text_encoder,
)
from retrieval.engine.errors import EngineError
from retrieval.models import EmbeddingModel
from retrieval.services.encoders import ModelChanged, recipe_check, runtime_arguments


class EncoderUnavailable(DomainError):
    """Queries cannot be encoded at present."""

    http_status = 503
    code = "encoder_unavailable"
    message = _("The encoder is not available. Try again; if it stays so, tell the operator.")


# One encoder at a time runs, and is loaded, in a web process: its threads share the machine.
_lock = threading.Lock()


@lru_cache(maxsize=2)
def _image_encoder(name: str) -> ImageEncoder:
    return load_image_encoder(name, *runtime_arguments())


@lru_cache(maxsize=2)
def _text_encoder(name: str) -> TextEncoder:
    return load_text_encoder(name, *runtime_arguments())


def encode_patches(model: EmbeddingModel, patches: np.ndarray) -> np.ndarray:
    """Return float32 (N, D) features of uint8 RGB patches (N, P, P, 3) of this image model.

    Raises EncoderUnavailable.
    """
    try:
        recipe_check(model)
        if settings.ENCODER_SOCKET:
            client = EncoderClient(settings.ENCODER_SOCKET)
            return client.encode_patches(model.encoder, patches, batch=settings.ENCODER_BATCH)
        with _lock:
            encoder = _image_encoder(model.encoder)
            step = settings.ENCODER_BATCH
            return np.concatenate(
                [np.empty((0, model.feature_width), np.float32)]
                + [encoder.encode(patches[at : at + step]) for at in range(0, len(patches), step)]
            )
    except (EngineError, EncoderServerError, ModelChanged) as error:
        raise EncoderUnavailable(error.message) from error


def encode_texts(model: EmbeddingModel, texts: list[str]) -> np.ndarray:
    """Return float32 (n, D) L2-normalised vectors of texts by this text model.

    Raises EncoderUnavailable.
    """
    try:
        recipe_check(model)
    except (EngineError, ModelChanged) as error:
        raise EncoderUnavailable(error.message) from error
    return encode_texts_by(model.encoder, texts)


def encode_texts_by(encoder: str, texts: list[str]) -> np.ndarray:
    """Return float32 (n, D) L2-normalised vectors of texts by this text encoder.

    Raises EncoderUnavailable.
    """
    try:
        if settings.ENCODER_SOCKET:
            return EncoderClient(settings.ENCODER_SOCKET).encode_texts(encoder, texts)
        with _lock:
            return _text_encoder(encoder).encode(texts)
    except (EngineError, EncoderServerError) as error:
        raise EncoderUnavailable(error.message) from error
