"""Pictures of slides as JPEG: tiles, thumbnails, regions and labels."""

import os
import tempfile
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from django.conf import settings
from django.http import Http404
from django.utils.translation import gettext_lazy as _
from PIL import Image

from cases.errors import DomainError
from cases.models import SlideImage
from cases.services.slide_readers import slide_reader
from cases.services.veiled_pixels import require_clean
from cases.wsi.deepzoom import DeepZoom

JPEG_QUALITY = 85
THUMBNAIL_PX = 512
REGION_MAX_PX = 768


class BadRegion(DomainError):
    """The asked rectangle is not one of the slide."""

    code = "bad_region"
    message = _("Give x, y, width and height in level-0 pixels, inside the slide.")


@cache
def deep_zoom(width_l0: int, height_l0: int) -> DeepZoom:
    """Return the tile pyramid of a slide of this size."""
    return DeepZoom(width_l0, height_l0)


def slide_deep_zoom(slide_image: SlideImage) -> DeepZoom:
    """Return the tile pyramid of the slide image."""
    return deep_zoom(slide_image.width_l0, slide_image.height_l0)


def tile_jpeg(
    slide_image: SlideImage, z_level: int, column: int, row: int, *, is_corrected: bool = False
) -> bytes:
    """Return one tile of the viewer. Raises Http404 outside the pyramid.

    is_corrected: with its colours brought to sRGB by the slide's ICC profile, if it has one.
    """
    try:
        region = slide_deep_zoom(slide_image).region(z_level, column, row)
    except (KeyError, ValueError) as error:
        raise Http404("There is no such tile.") from error
    with slide_reader(slide_image) as reader:
        rgb = reader.read_region_l0(*region)
        correction = reader.correction if is_corrected else None
        return _jpeg(correction.apply(rgb) if correction else rgb)


def region_jpeg(
    slide_image: SlideImage, *, x: int, y: int, width: int, height: int, size: int
) -> bytes:
    """Return a rectangle (level-0 pixels), its longer side `size` pixels, REGION_MAX_PX at most.

    Never magnified: a rectangle smaller than `size` comes in its own resolution.
    """
    if not (
        0 <= x < x + width <= slide_image.width_l0
        and 0 <= y < y + height <= slide_image.height_l0
        and size > 0
    ):
        raise BadRegion
    scale = min(1.0, min(size, REGION_MAX_PX) / max(width, height))
    out_width, out_height = max(1, round(width * scale)), max(1, round(height * scale))
    with slide_reader(slide_image) as reader:
        return _jpeg(reader.read_region_l0(x, y, width, height, out_width, out_height))


def thumbnail_jpeg(slide_image: SlideImage) -> bytes:
    """Return the whole slide without its label; made once and kept in the data folder."""
    require_clean(slide_image)
    file = settings.DATA_DIR / "thumbnails" / f"{slide_image.pk}.jpeg"
    try:
        return file.read_bytes()
    except FileNotFoundError:
        pass
    with slide_reader(slide_image) as reader:
        jpeg = _jpeg(reader.thumbnail(THUMBNAIL_PX))
    file.parent.mkdir(parents=True, exist_ok=True)
    # Two processes can make it at once: each writes its own file and puts it there whole.
    with tempfile.NamedTemporaryFile(
        dir=file.parent, prefix=f"{slide_image.pk}.", suffix=".part", delete=False
    ) as part:
        part.write(jpeg)
    os.replace(part.name, file)  # noqa: PTH105
    return jpeg


def label_jpeg(slide_image: SlideImage) -> bytes:
    """Return the photo of the printed label: patient data, never kept. Http404 where none is."""
    return _jpeg(label_rgb(slide_image))


def label_rgb(slide_image: SlideImage) -> np.ndarray[Any, Any]:
    """Return the same as pixels (height, width, 3)."""
    with slide_reader(slide_image) as reader:
        label = reader.label_image()
    if label is None:
        raise Http404("This slide has no label image.")
    return label


def _jpeg(rgb: np.ndarray[Any, Any]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
