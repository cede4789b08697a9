"""A slide held in memory, and an encoder that needs no weights, behind the real interfaces."""

import threading

import numpy as np
from PIL import Image

from retrieval.engine.encoders import ImageEncoderSpec

FAKE_SPEC = ImageEncoderSpec(
    name="fake",
    dimension=6,
    licence="none",
    source="tests",
    weights_sha256="0" * 64,
    locate=lambda: None,
    builder="",
    remedy="",
    patch_px=32,
    mpp=2.0,
)


class ArraySlide:
    """A SlideReader over an array: level 0 only, white outside."""

    def __init__(self, rgb: np.ndarray, mpp: float | None = 1.0) -> None:
        self.rgb, self.mpp = rgb, mpp
        self.height_l0, self.width_l0 = rgb.shape[:2]
        self.mpp_source, self.objective_power, self.vendor = "file", None, "array"
        self.level_count, self.level_downsamples = 1, (1.0,)
        self.level_dimensions = ((self.width_l0, self.height_l0),)
        self.has_label_image = False
        self.reads, self.threads = 0, set()
        self._lock = threading.Lock()

    def read_region_l0(self, x_l0, y_l0, width_l0, height_l0, out_width, out_height):
        with self._lock:
            self.reads += 1
            self.threads.add(threading.current_thread().name)
        picture = Image.fromarray(self.rgb).crop((x_l0, y_l0, x_l0 + width_l0, y_l0 + height_l0))
        return np.asarray(picture.resize((out_width, out_height), Image.Resampling.BOX))

    def thumbnail(self, max_px):
        scale = max_px / max(self.width_l0, self.height_l0)
        size = max(1, round(self.width_l0 * scale)), max(1, round(self.height_l0 * scale))
        return np.asarray(Image.fromarray(self.rgb).resize(size, Image.Resampling.BOX))

    def label_image(self):
        return None

    def close(self):
        pass


class ColourEncoder:
    """Features are means and deviations of the colours; remembers the sizes of its batches."""

    def __init__(self, spec: ImageEncoderSpec = FAKE_SPEC) -> None:
        self.spec = spec
        self.batches: list[int] = []

    def encode(self, patches: np.ndarray) -> np.ndarray:
        self.batches.append(len(patches))
        flat = patches.reshape(len(patches), self.spec.patch_px**2, 3).astype(np.float32) / 255
        return np.concatenate([flat.mean(1), flat.std(1)], axis=1)


PINK, VIOLET, GLASS = (220, 130, 180), (120, 70, 150), (243, 243, 243)


def painted(width: int, height: int, *patches, background=GLASS, seed: int = 0) -> np.ndarray:
    """Return a slide's pixels: rectangles (x, y, width, height, colour), with a camera's noise."""
    rgb = np.empty((height, width, 3), np.float32)
    rgb[:] = background
    for x, y, w, h, colour in patches:
        rgb[y : y + h, x : x + w] = colour
    noise = np.random.default_rng(seed).normal(0, 3, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8)
