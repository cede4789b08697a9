"""Frozen sentence embeddings of reports, kept in a file so that they are computed once."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.engine.encoders import TextEncoder, load_text_encoder

Float32Array = npt.NDArray[np.float32]

_BLOCK = 128


def report_vectors(
    reports: Mapping[str, str],
    encoder_name: str,
    *,
    cache: Path,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda _: None,
    encoder: TextEncoder | None = None,
) -> dict[str, Float32Array]:
    """Return a unit vector for each report, from the cache where it is there already.

    The cache grows block by block: an interrupted run loses one block at most. It is of one
    encoder and these texts; give another name for others.

    Raises
    ------
    UnknownEncoder, ModelMissing, ModelCorrupt
    """
    known: dict[str, Float32Array] = {}
    if cache.is_file():
        with np.load(cache, allow_pickle=False) as stored:
            known = dict(zip(stored["owners"].tolist(), stored["vectors"], strict=True))
    missing = sorted(set(reports) - set(known))
    if missing:
        encoder = encoder or load_text_encoder(encoder_name, device)
        for start in range(0, len(missing), _BLOCK):
            block = missing[start : start + _BLOCK]
            vectors = encoder.encode([reports[owner] for owner in block])
            known |= dict(zip(block, vectors, strict=True))
            partial = cache.with_name(cache.name + ".partial")
            with partial.open("wb") as file:
                np.savez(file, owners=np.array(list(known)), vectors=np.stack(list(known.values())))
            partial.replace(cache)
            progress(f"embedded {start + len(block)} of {len(missing)} reports")
    return {owner: known[owner] for owner in reports}
