"""WADO-RS rendered resources and thumbnails (PS3.18 8.3.5, 10.4.1.1.3): pictures for people.

Made on demand in a bounded size. Labels are pictures of their own instance only.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from django.http import Http404, HttpResponse
from PIL import Image
from rest_framework.request import Request

from cases.dicomweb import objects, sending
from cases.dicomweb.base import negotiate
from cases.dicomweb.errors import BadDicomRequest, NotAcceptable
from cases.dicomweb.retrieve import RetrieveView, asked_frames
from cases.dicomweb.served import DicomObject
from cases.models import SlideInstance
from cases.services import pixels
from cases.services.slide_readers import SlideUnreadable, slide_reader
from cases.wsi.errors import UnsupportedTransferSyntaxError, WsiError
from cases.wsi.frame_pixels import picture
from cases.wsi.values import Rgb

VIEWPORT_MAX = 2048
RENDERED_PX, THUMBNAIL_PX = 1024, 256
QUALITY = 85
MAX_FRAMES = 64
MAX_COMPOSED_PIXELS = 16_000_000
_OFFERS = ("image/jpeg", "image/png")


@dataclass(frozen=True)
class Viewport:
    """How large the picture is to be, and of which part (PS3.18 8.3.5.1.3).

    `source` is (x, y, width, height) in pixels of the instance or frame; None for all of it.
    """

    width: int
    height: int
    source: tuple[int, int, int, int] | None = None

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """Return the size of a picture of that shape inside the viewport."""
        scale = min(self.width / width, self.height / height)
        return max(1, round(width * scale)), max(1, round(height * scale))


def viewport_of(request: Request, default_px: int) -> Viewport:
    """Return the `viewport` parameter: `width,height[,sx,sy,sw,sh]`, bounded."""
    text = request.GET.get("viewport", "")
    if not text:
        return Viewport(default_px, default_px)
    try:
        numbers = [int(part) if part.strip() else None for part in text.split(",")]
        if len(numbers) not in (2, 6) or not numbers[0] or not numbers[1]:
            raise ValueError(text)
        source = None
        if len(numbers) == 6 and any(n is not None for n in numbers[2:]):
            x, y, width, height = numbers[2] or 0, numbers[3] or 0, numbers[4], numbers[5]
            if x < 0 or y < 0 or not width or not height or width < 1 or height < 1:
                raise ValueError(text)
            source = (x, y, width, height)
        if numbers[0] < 1 or numbers[1] < 1:
            raise ValueError(text)
    except ValueError as error:
        raise BadDicomRequest(
            "A viewport is width,height or width,height,x,y,width,height in whole pixels."
        ) from error
    return Viewport(min(numbers[0], VIEWPORT_MAX), min(numbers[1], VIEWPORT_MAX), source)


def quality_of(request: Request) -> int:
    """Return the `quality` parameter, 1 to 100."""
    text = request.GET.get("quality", str(QUALITY))
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= 100):
        raise BadDicomRequest("Quality is a whole number from 1 to 100.")
    return int(text)


class _Picture(RetrieveView):
    default_px = RENDERED_PX

    def answer(self, request: Request, one: DicomObject, what: Any, make: Any) -> HttpResponse:
        """Return make(viewport) as a picture, or 304."""
        media_type, _range = negotiate(request, _OFFERS)
        viewport, quality = viewport_of(request, self.default_px), quality_of(request)
        text = repr((one.sop_uid, one.version, what, media_type, viewport, quality))
        etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        headers = sending.cache_headers(etag, shows_label=one.is_private)
        if (unchanged := sending.not_modified(request, headers)) is not None:
            return unchanged
        try:
            rgb = make(viewport)
        except UnsupportedTransferSyntaxError as error:
            raise NotAcceptable(error.message) from error
        except WsiError as error:
            raise SlideUnreadable(error.message, code=error.code) from error
        buffer = BytesIO()
        options = {"quality": quality} if media_type == "image/jpeg" else {"compress_level": 3}
        Image.fromarray(rgb).save(buffer, media_type[6:].upper(), **options)
        return HttpResponse(buffer.getvalue(), content_type=media_type, headers=headers)


class RenderFrames(_Picture):
    """One frame as a picture."""

    def get(
        self, request: Request, study_uid: str, series_uid: str, sop_uid: str, frames: str
    ) -> Any:
        """Send the frame, in its own size unless a viewport is given."""
        numbers = asked_frames(frames)
        if len(numbers) != 1:
            raise BadDicomRequest("One frame at a time is rendered.")
        (one,) = self.found(request, study_uid, series_uid, sop_uid)
        if not 1 <= numbers[0] <= one.frame_count:
            raise Http404

        def make(viewport: Viewport) -> Rgb:
            rgb = frame_picture(one, numbers[0])
            if "viewport" not in request.GET:
                return rgb
            return _cropped(rgb, viewport)

        return self.answer(request, one, numbers[0], make)


class RenderInstance(_Picture):
    """The whole image of an instance as a picture."""

    def get(self, request: Request, study_uid: str, series_uid: str, sop_uid: str) -> HttpResponse:
        """Send it inside the viewport."""
        (one,) = self.found(request, study_uid, series_uid, sop_uid)
        return self.answer(request, one, "whole", lambda viewport: whole_picture(one, viewport))


class Thumbnail(_Picture):
    """A small picture that stands for a study, a series or an instance."""

    default_px = THUMBNAIL_PX

    def get(
        self, request: Request, study_uid: str, series_uid: str = "", sop_uid: str = ""
    ) -> HttpResponse:
        """Send the instance's own, or that of the first slide image."""
        if sop_uid:
            (one,) = self.found(request, study_uid, series_uid, sop_uid)
        else:
            one = self._standing_for(request, study_uid, series_uid)
        return self.answer(request, one, "whole", lambda viewport: whole_picture(one, viewport))

    def _standing_for(self, request: Request, study: str, series: str) -> DicomObject:
        shown = [
            one
            for one in objects.find(request.user, study, series)
            if one.flavor == SlideInstance.Flavor.VOLUME
        ]
        if not shown:
            raise Http404
        self.record(request, shown[:1])
        return shown[0]


def frame_picture(one: DicomObject, number: int) -> Rgb:
    """Return a frame as RGB. Raises NotAcceptable where it is no picture."""
    try:
        return picture(one.frame(number), one.frame_format)
    except KeyError as error:
        raise NotAcceptable("This object has no pixels that could be shown.") from error


def whole_picture(one: DicomObject, viewport: Viewport) -> Rgb:
    """Return all of an instance, or the viewport's part, as RGB."""
    if one.flavor in (SlideInstance.Flavor.VOLUME, SlideInstance.Flavor.THUMBNAIL):
        return _of_slide(one, viewport)
    if one.flavor == SlideInstance.Flavor.LABEL and one.slide_image.source_format != "dicom":
        return _cropped(pixels.label_rgb(one.slide_image), viewport)
    if not one.frame_count:
        raise NotAcceptable("This object has no pixels that could be shown.")
    return _cropped(_composed(one), viewport)


def _of_slide(one: DicomObject, viewport: Viewport) -> Rgb:
    """Return the tissue through the slide's reader, which takes the level that suffices."""
    image = one.slide_image
    columns, rows = one.matrix
    x, y, width, height = viewport.source or (0, 0, columns, rows)
    if x >= columns or y >= rows:
        raise BadDicomRequest("The viewport's source lies outside the image.")
    width, height = min(width, columns - x), min(height, rows - y)
    scale_x, scale_y = image.width_l0 / columns, image.height_l0 / rows
    out = viewport.fit(width, height)
    with slide_reader(image) as reader:
        return reader.read_region_l0(
            x * scale_x, y * scale_y, width * scale_x, height * scale_y, *out
        )


def _composed(one: DicomObject) -> Rgb:
    """Return the frames of a small image side by side, row by row."""
    form = one.frame_format
    columns, rows = one.matrix
    across, down = -(-columns // form.columns), -(-rows // form.rows)
    if across * down > min(MAX_FRAMES, one.frame_count) or columns * rows > MAX_COMPOSED_PIXELS:
        raise NotAcceptable("This image is too large to be rendered as a whole.")
    out = np.full((down * form.rows, across * form.columns, 3), 255, np.uint8)
    for number in range(across * down):
        top, left = number // across * form.rows, number % across * form.columns
        out[top : top + form.rows, left : left + form.columns] = frame_picture(one, number + 1)
    return out[:rows, :columns]


def _cropped(rgb: Rgb, viewport: Viewport) -> Rgb:
    height, width = rgb.shape[:2]
    x, y, source_width, source_height = viewport.source or (0, 0, width, height)
    if x >= width or y >= height:
        raise BadDicomRequest("The viewport's source lies outside the image.")
    part = np.ascontiguousarray(rgb[y : y + source_height, x : x + source_width])
    size = viewport.fit(part.shape[1], part.shape[0])
    return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.LANCZOS))
