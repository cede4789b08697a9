"""A slide into its embedding: mask, patches, features, mosaic. The notebook's entry.

>>> from pathlib import Path
>>> from cases.wsi.reader import open_slide
>>> from retrieval.engine.encoders import load_image_encoder
>>> encoder = load_image_encoder("efficientnet-lite0")  # doctest: +SKIP
>>> embedded = embed_slide(open_slide(Path("slide.svs")), encoder)  # doctest: +SKIP
>>> embedded.mosaic.tokens.shape  # doctest: +SKIP
(16, 1280)
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cases.wsi.reader import SlideReader
from retrieval.engine.encoders import ImageEncoder
from retrieval.engine.mosaic import Mosaic, prototypes
from retrieval.engine.patches import check_resolution, patch_grid, read_patches, slide_mask

# progress(done, total, step); it may raise to stop the work.
Progress = Callable[[int, int, str], None]
# aggregate(features (N, D), coords_l0 (N, 2), size_l0) -> Mosaic
Aggregate = Callable[[npt.NDArray[np.floating], npt.NDArray[np.int64], int], Mosaic]


@dataclass
class Timings:
    """Seconds by step.

    `decode` is the work of all decoding threads together and runs beside `encode`; `wait` is
    what the encoder waited for pixels; `overhead` is the rest of `total`.
    """

    mask: float = 0.0
    decode: float = 0.0
    wait: float = 0.0
    encode: float = 0.0
    aggregate: float = 0.0
    total: float = 0.0

    @property
    def overhead(self) -> float:
        """Return the seconds that no step accounts for."""
        return max(0.0, self.total - self.mask - self.wait - self.encode - self.aggregate)

    def as_dict(self) -> dict[str, float]:
        """Return the seconds by name, rounded to milliseconds."""
        return {name: round(value, 3) for name, value in vars(self).items()} | {
            "overhead": round(self.overhead, 3)
        }


@dataclass(frozen=True)
class EmbeddedSlide:
    """What is kept of an embedded slide.

    Attributes
    ----------
    features : float16 (N, D)
    coords_l0 : int64 (N, 2)
        Upper left corners (x, y) of the patches in level-0 pixels.
    size_l0 : int
        Side of a patch in level-0 pixels.
    mosaic : Mosaic
        Made from the float16 features, so that it can be made again from what is stored.
    timings : Timings
    """

    features: npt.NDArray[np.float16]
    coords_l0: npt.NDArray[np.int64]
    size_l0: int
    mosaic: Mosaic
    timings: Timings = field(default_factory=Timings)


def embed_slide(
    reader: SlideReader,
    encoder: ImageEncoder,
    *,
    mpp: float | None = None,
    centre: npt.NDArray[np.float32] | None = None,
    token_count: int = 16,
    aggregate: Aggregate | None = None,
    progress: Progress | None = None,
    batch: int = 32,
    decode_threads: int = 2,
) -> EmbeddedSlide:
    """Embed a whole slide.

    Patches go from the reader to the encoder in batches; decoding threads work ahead while
    the encoder runs, by a few batches only, so that memory does not grow with the slide.

    Parameters
    ----------
    reader : SlideReader
        The open slide; its `read_region_l0` is called from several threads.
    encoder : ImageEncoder
    mpp : float, optional
        Um per level-0 pixel, where it is known better than the file says.
    centre : float32 (D,), optional
        Subtracted from features before comparing; see `prototypes`.
    token_count : int
        Most mosaic tokens.
    aggregate : callable, optional
        Makes the mosaic in place of `prototypes`; `centre` and `token_count` are then unused.
    progress : callable, optional
        Called as ``progress(done, total, step)`` with patches; may raise to stop.
    batch : int
        Patches per call of the encoder.
    decode_threads : int
        Threads that decode; 0 decodes in the calling thread, with no overlap.

    Raises
    ------
    SkipSlide
        ``fluorescence``, ``no_tissue``, ``too_small``, ``too_coarse``, ``no_mpp``.
    """
    tell = progress or (lambda done, total, step: None)
    timings = Timings()
    spec = encoder.spec
    mpp = mpp or reader.mpp
    check_resolution(mpp, spec.mpp)
    assert mpp is not None
    start = time.perf_counter()
    tell(0, 0, "mask")
    coords, size = patch_grid(
        slide_mask(reader, mpp),
        width_l0=reader.width_l0,
        height_l0=reader.height_l0,
        mpp=mpp,
        patch_px=spec.patch_px,
        target_mpp=spec.mpp,
    )
    timings.mask = time.perf_counter() - start

    features = np.empty((len(coords), spec.dimension), np.float16)
    tell(0, len(coords), "encode")
    done = 0
    for pixels in _decoded(reader, coords, size, spec.patch_px, batch, decode_threads, timings):
        began = time.perf_counter()
        features[done : done + len(pixels)] = encoder.encode(pixels)
        timings.encode += time.perf_counter() - began
        done += len(pixels)
        tell(done, len(coords), "encode")

    began = time.perf_counter()
    tell(len(coords), len(coords), "aggregate")
    if aggregate is None:
        mosaic = prototypes(features, coords, size, token_count=token_count, centre=centre)
    else:
        mosaic = aggregate(features, coords, size)
    timings.aggregate = time.perf_counter() - began
    timings.total = time.perf_counter() - start
    return EmbeddedSlide(features, coords, size, mosaic, timings)


def _decoded(
    reader: SlideReader,
    coords_l0: npt.NDArray[np.int64],
    size_l0: int,
    patch_px: int,
    batch: int,
    threads: int,
    timings: Timings,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield batches of pixels in order, decoded ahead by `threads` + 1 batches at most."""
    parts = [coords_l0[start : start + batch] for start in range(0, len(coords_l0), batch)]
    lock = threading.Lock()

    def decode(part: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        began = time.perf_counter()
        pixels = read_patches(reader, part, size_l0, patch_px)
        with lock:
            timings.decode += time.perf_counter() - began
        return pixels

    if threads <= 0:
        for part in parts:
            began = time.perf_counter()
            pixels = decode(part)
            timings.wait += time.perf_counter() - began
            yield pixels
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    ahead: deque[Future[npt.NDArray[np.uint8]]] = deque()
    waiting = iter(parts)
    try:
        for part in waiting:
            ahead.append(pool.submit(decode, part))
            if len(ahead) > threads:
                break
        while ahead:
            began = time.perf_counter()
            pixels = ahead.popleft().result()
            timings.wait += time.perf_counter() - began
            following = next(waiting, None)
            if following is not None:
                ahead.append(pool.submit(decode, following))
            yield pixels
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
