"""The codecs of mosaic tokens, read once a process: a codec never changes."""

from functools import lru_cache
from typing import Any

import numpy as np
from django.apps import apps

from retrieval.engine.mosaic import tokens_from_bytes
from retrieval.engine.token_codec import TokenCodec


@lru_cache(maxsize=16)
def codec_of(codec_id: int) -> TokenCodec:
    """Return the codec of this key."""
    row = apps.get_model("retrieval", "MosaicCodec").objects.only("payload").get(pk=codec_id)
    return TokenCodec.from_bytes(row.payload)


def codec_id_of_model(model: Any) -> int | None:
    """Return the key of the model's codec, or None where none is fitted yet.

    Asked anew each time until there is one: a long-lived process must see it come.
    """
    known = _known.get(model.pk)
    if known is None:
        codecs = apps.get_model("retrieval", "MosaicCodec").objects.filter(model_id=model.pk)
        known = codecs.values_list("pk", flat=True).first()
        if known is not None:
            _known[model.pk] = known
    return known


_known: dict[int, int] = {}


def codecs_forget() -> None:
    """Forget what was read; for tests, whose rows are rolled back."""
    codec_of.cache_clear()
    _known.clear()


def stored_tokens(data: bytes, codec_id: int | None, width: int) -> np.ndarray:
    """Return the tokens float32 (M, width) of a stored mosaic, coded or as float16."""
    if codec_id is None:
        return tokens_from_bytes(data, width)
    codec = codec_of(codec_id)
    return codec.restore(codec.decode(data))
