"""Images that people search by: checked before they are decoded, kept as a small copy."""

import io
import math
import warnings
from dataclasses import dataclass

import numpy as np
from django.utils.translation import gettext_lazy as _
from PIL import Image, ImageOps, UnidentifiedImageError

from cases.errors import DomainError

IMAGE_MAX_BYTES = 20 * 1024**2
IMAGE_MAX_PIXELS = 40_000_000
IMAGE_MIN_SIDE = 64
MPP_MIN, MPP_MAX = 0.05, 20.0
COPY_MAX_SIDE = 1600
_FORMATS = ("PNG", "JPEG")


class QueryImageRefused(DomainError):
    """The image cannot be searched by; `code` names the reason."""

    code = "not_an_image"
    message = _("This file is not a PNG or JPEG image.")


@dataclass(frozen=True)
class QueryImage:
    """A decoded image: uint8 (H, W, 3) RGB and its µm per pixel."""

    rgb: np.ndarray
    mpp: float


def query_image_decode(data: bytes, mpp: float | None) -> QueryImage:
    """Return the pixels of an uploaded PNG or JPEG, or raise QueryImageRefused with the reason."""
    if mpp is None:
        raise QueryImageRefused(
            "Say how many µm one pixel of the image is: without it, cells cannot be compared "
            "at the same size. A 20x scan has about 0.5, a 40x scan about 0.25.",
            code="image_mpp_required",
        )
    if not math.isfinite(mpp) or not MPP_MIN <= mpp <= MPP_MAX:
        raise QueryImageRefused(
            f"µm per pixel must lie between {MPP_MIN} and {MPP_MAX:g}.", code="image_mpp_absurd"
        )
    if len(data) > IMAGE_MAX_BYTES:
        raise QueryImageRefused(
            f"The image is larger than {IMAGE_MAX_BYTES // 1024**2} MB. Cut out the part you "
            "mean, or upload it as a slide.",
            code="image_too_large",
        )
    return QueryImage(_decode(data), float(mpp))


def _decode(data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # Pillow only warns between its limit and twice its limit; our own comes below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels() from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise QueryImageRefused from error
    with image:
        # The header is read, no pixel yet.
        if image.width * image.height > IMAGE_MAX_PIXELS:
            raise _too_many_pixels()
        if min(image.size) < IMAGE_MIN_SIDE:
            raise QueryImageRefused(
                f"The image is smaller than {IMAGE_MIN_SIDE} pixels on a side.",
                code="image_too_small",
            )
        try:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise QueryImageRefused(
                "The image is damaged: it could not be decoded to the end.", code="image_corrupt"
            ) from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip, not scale
        grey = (np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _too_many_pixels() -> QueryImageRefused:
    return QueryImageRefused(
        f"The image has more than {IMAGE_MAX_PIXELS // 1_000_000} million pixels. "
        "Cut out the part you mean, or upload it as a slide.",
        code="image_too_many_pixels",
    )


def query_image_copy(image: QueryImage) -> tuple[bytes, float]:
    """Return a JPEG copy of at most COPY_MAX_SIDE, free of metadata, and its scale (<= 1)."""
    copy = Image.fromarray(image.rgb)
    copy.thumbnail((COPY_MAX_SIDE, COPY_MAX_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    copy.save(file, "JPEG", quality=90)
    return file.getvalue(), copy.width / image.rgb.shape[1]


def query_image_crop(jpeg: bytes, box: tuple[int, int, int, int] | None, size: int) -> bytes:
    """Return the stored copy, or a part (x, y, width, height) of it, `size` px at most, as JPEG.

    Beyond the edge is white, as in the regions of a slide.
    """
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        part = image.convert("RGB")
    if box is not None:
        x, y, width, height = box
        if x >= part.width or y >= part.height or x + width <= 0 or y + height <= 0:
            raise ValueError("the box lies outside of the image")
        inside = part.crop(
            (max(0, x), max(0, y), min(part.width, x + width), min(part.height, y + height))
        )
        scale = min(1.0, size / max(width, height))
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = Image.new("RGB", target, "white")
        placed = (max(1, round(inside.width * scale)), max(1, round(inside.height * scale)))
        canvas.paste(
            inside.resize(placed, Image.Resampling.LANCZOS),
            (round(max(0, -x) * scale), round(max(0, -y) * scale)),
        )
        part = canvas
    part.thumbnail((size, size), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    part.save(file, "JPEG", quality=85)
    return file.getvalue()
