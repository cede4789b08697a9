"""The registry of encoders: what each is, and how to load it.

Importing this package is cheap: torch is imported by the first `load_*` call only, because a
web process needs no torch and a forked worker must import it after the fork.
"""

import importlib
import os
from typing import Any

from retrieval.engine.encoders.catalogue_images import SITE_IMAGE_ENCODERS
from retrieval.engine.encoders.catalogue_texts import SITE_TEXT_ENCODERS, sentence_encoder
from retrieval.engine.encoders.embedded import ALL_MINILM_L6_V2, EFFICIENTNET_LITE0
from retrieval.engine.encoders.files import checked_weights, sha256_of, weights_digest
from retrieval.engine.encoders.spec import (
    EncoderSpec,
    Float32Array,
    ImageEncoder,
    ImageEncoderSpec,
    ModelFiles,
    Registry,
    Runtime,
    TextEncoder,
    TextEncoderSpec,
    UInt8Array,
)
from retrieval.engine.errors import ModelMissing

__all__ = [
    "IMAGE_ENCODERS",
    "TEXT_ENCODERS",
    "EncoderSpec",
    "Float32Array",
    "ImageEncoder",
    "ImageEncoderSpec",
    "ModelFiles",
    "Registry",
    "Runtime",
    "TextEncoder",
    "TextEncoderSpec",
    "UInt8Array",
    "checked_weights",
    "load_image_encoder",
    "load_text_encoder",
    "sha256_of",
    "weights_digest",
]

IMAGE_ENCODERS: Registry[ImageEncoderSpec] = Registry("image")
TEXT_ENCODERS: Registry[TextEncoderSpec] = Registry("text", by_name=sentence_encoder)

for _image in (EFFICIENTNET_LITE0, *SITE_IMAGE_ENCODERS):
    IMAGE_ENCODERS.register(_image)
for _text in (ALL_MINILM_L6_V2, *SITE_TEXT_ENCODERS):
    TEXT_ENCODERS.register(_text)


def _load(spec: EncoderSpec, runtime: Runtime) -> Any:
    weights = checked_weights(spec)
    # Read by OpenMP when torch is imported. Its threads would otherwise spin while they wait
    # for each other: beside other busy processes that made a query twelve times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module, _, function = spec.builder.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise ModelMissing(
            f"A package that the encoder {spec.name} needs is not installed "
            f"({error.name}). {spec.remedy}"
        ) from error
    return build(spec, weights, runtime)


def load_image_encoder(
    name: str,
    device: str = "auto",
    threads: int = 0,
    precision: str = "auto",
    compiled: bool = False,
) -> ImageEncoder:
    """Load a registered image encoder.

    Parameters
    ----------
    name : str
        Name in `IMAGE_ENCODERS`.
    device, threads, precision, compiled
        See `Runtime`.

    Raises
    ------
    UnknownEncoder, ModelMissing, ModelUnpinned, ModelCorrupt
    """
    return _load(IMAGE_ENCODERS[name], Runtime(device, threads, precision, compiled))


def load_text_encoder(
    name: str,
    device: str = "auto",
    threads: int = 0,
    precision: str = "auto",
    compiled: bool = False,
) -> TextEncoder:
    """Load a registered text encoder; see `load_image_encoder`."""
    return _load(TEXT_ENCODERS[name], Runtime(device, threads, precision, compiled))
