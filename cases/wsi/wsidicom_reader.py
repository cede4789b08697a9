"""DICOM whole slide series through wsidicom: the one place that knows its classes.

wsidicom's instances are used directly rather than its pyramid, which needs a spacing, one
tile size, and levels at powers of two. Positions here are pixels of the level itself.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.config
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from wsidicom.codec import Codec
from wsidicom.config import Settings, use_settings
from wsidicom.errors import WsiDicomError
from wsidicom.file import WsiDicomFileSource
from wsidicom.file.io import WsiDicomReader as WsiDicomFile
from wsidicom.geometry import Point
from wsidicom.instance import ImageData, WsiInstance

from cases.wsi.errors import CorruptError, NoVolumeError, UnsupportedImageError
from cases.wsi.regions import RegionReader
from cases.wsi.values import Rgb

# Both log header values, which may be a patient's; what matters is raised as an error instead.
logging.getLogger("wsidicom").setLevel(logging.CRITICAL)
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

SETTINGS = Settings(
    strict_tile_size_check=False,
    decoded_frame_cache_size=32 * 2**20,
    encoded_frame_cache_size=0,
)
OPTICAL_PATH_SEQUENCE = 0x00480105
SAME_ORIGIN_MM = 0.02
"""Images of one size that begin further apart than this show different tissue."""


class WsiDicomReader(RegionReader):
    """The VOLUME instances of one DICOM series.

    Parameters
    ----------
    files
        The series' instances; others among them are ignored.

    Raises
    ------
    NoVolumeError, UnsupportedImageError, CorruptError
        When there is no image of the tissue, more than one, or none that can be read.
    """

    vendor = "dicom"

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            with use_settings(SETTINGS):
                self._source = WsiDicomFileSource.open(list(files))
                for reader in self._source.readers:
                    _correct_colour_space(reader)
                instances = list(self._source.level_instances)
                labels = list(self._source.label_instances)
        except WsiDicomError as error:
            raise NoVolumeError from error
        except (ValueError, KeyError, AttributeError, EOFError, NotImplementedError) as error:
            raise CorruptError("The DICOM series cannot be opened.") from error
        try:
            chosen = _pyramid(instances)
            self._levels = [_Plane(instance) for instance in chosen]
            self._set_levels([plane.size for plane in self._levels])
            self._label = _Plane(labels[0]) if labels else None
        except BaseException:
            self._source.close()
            raise
        self.has_label_image = self._label is not None
        self.objective_power = _objective_power(chosen[0])
        self.mpp, self.mpp_source = _resolution(chosen[0], self.objective_power)

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        return self._levels[level].read(x, y, width, height)

    def label_image(self) -> Rgb | None:
        """Return the LABEL instance's pixels (see SlideReader)."""
        if self._label is None:
            return None
        return self._label.read(0, 0, *self._label.size)

    def close(self) -> None:
        """Release the files."""
        self._source.close()


class _Plane:
    """One focal plane and optical path of an instance, as pixels."""

    def __init__(self, instance: WsiInstance) -> None:
        self._data: ImageData = instance.image_data
        self.size = (instance.size.width, instance.size.height)
        self._tile = (instance.tile_size.width, instance.tile_size.height)
        self._z, self._path = self._data.default_z, self._data.default_path
        self._shift = max(0, self._data.bits - 8)

    def read(self, x: int, y: int, width: int, height: int) -> Rgb:
        tile_width, tile_height = self._tile
        out = np.empty((height, width, 3), np.uint8)
        for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
            top, bottom = max(y, row * tile_height), min(y + height, (row + 1) * tile_height)
            for column in range(x // tile_width, (x + width - 1) // tile_width + 1):
                left, right = max(x, column * tile_width), min(x + width, (column + 1) * tile_width)
                tile = self._decode(column, row)
                out[top - y : bottom - y, left - x : right - x] = tile[
                    top - row * tile_height : bottom - row * tile_height,
                    left - column * tile_width : right - column * tile_width,
                ]
        return out

    def _decode(self, column: int, row: int) -> Any:
        """Return a tile as uint8 (rows, columns, 3), or (rows, columns, 1) for one channel."""
        try:
            tile = self._data.get_decoded_tile(Point(column, row), self._z, self._path)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise what they like
            raise CorruptError("Image data of the DICOM instance cannot be decoded.") from error
        if self._shift:
            tile = (tile >> self._shift).astype(np.uint8)
        return tile if tile.ndim == 3 else tile[..., np.newaxis]


def can_decode(transfer_syntax_uid: str, samples: int, bits: int, photometric: str) -> bool:
    """Return whether frames of this kind can be decoded with what is installed."""
    uid = UID(transfer_syntax_uid)
    if uid not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and not (
        uid.is_transfer_syntax and uid.is_encapsulated
    ):
        return False
    try:
        return bool(Codec.is_supported(uid, samples, bits, photometric))
    except ValueError:
        return False


def _correct_colour_space(reader: WsiDicomFile) -> None:
    """Let an instance that wrongly declares RGB be decoded by what its JPEG frames say.

    Some converters write YCbCr frames under PhotometricInterpretation RGB; taken at its word
    the slide turns red and green. A JFIF marker or subsampled colour means YCbCr for certain.
    """
    if (
        reader.transfer_syntax == JPEGBaseline8Bit
        and reader.dataset.photometric_interpretation == "RGB"
        and _is_ycbcr_jpeg(reader.read_frame(reader.frame_offset))
    ):
        reader.dataset.as_dataset().PhotometricInterpretation = "YBR_FULL_422"


def _is_ycbcr_jpeg(frame: bytes) -> bool:
    """Return whether the JPEG header itself says YCbCr; False when it says nothing."""
    try:
        image = Image.open(io.BytesIO(frame))
    except OSError:
        return False
    if not isinstance(image, JpegImageFile) or "adobe_transform" in image.info:
        return False
    subsampled = any(layer[1:3] != (1, 1) for layer in image.layer)
    return len(image.layer) == 3 and ("jfif" in image.info or subsampled)


def _pyramid(instances: Sequence[WsiInstance]) -> list[WsiInstance]:
    """Return one instance per level, finest first, all of the same tissue."""
    by_size: dict[tuple[int, int], list[WsiInstance]] = defaultdict(list)
    for instance in instances:
        by_size[(instance.size.width, instance.size.height)].append(instance)
    if not by_size:
        raise NoVolumeError
    sizes = sorted(by_size, key=lambda size: -size[0] * size[1])
    width, height = sizes[0]
    for own_width, own_height in sizes[1:]:
        # Each side of a level may be off by the pixel that was rounded.
        factor = math.sqrt(width * height / (own_width * own_height))
        if (
            abs(width / factor - own_width) > 1.5 + 0.02 * own_width
            or abs(height / factor - own_height) > 1.5 + 0.02 * own_height
        ):
            raise UnsupportedImageError(
                "The series holds images of more than one area of tissue. "
                "Send each area as its own series."
            )
    return [_default_instance(by_size[size]) for size in sizes]


def _default_instance(instances: Sequence[WsiInstance]) -> WsiInstance:
    """Return the one to show of several of one size: focal planes or optical paths."""
    if len(instances) == 1:
        return instances[0]
    origins = [_origin(instance) for instance in instances]
    known = [origin for origin in origins if origin is not None]
    if any(math.dist(known[0], origin) > SAME_ORIGIN_MM for origin in known[1:]):
        raise UnsupportedImageError(
            "The series holds images of more than one area of tissue. "
            "Send each area as its own series."
        )
    planes = sorted(instance.default_z for instance in instances)
    middle = planes[len(planes) // 2]
    return min(
        instances,
        key=lambda instance: (
            abs(instance.default_z - middle),
            instance.default_path,
            str(instance.identifier),
        ),
    )


def _header(instance: WsiInstance) -> Dataset:
    """Return the instance's header up to the optical paths, without its frames' positions.

    Those follow in the file and can be hundreds of thousands.
    """
    with Path(instance.image_data.files[0].path).open("rb") as file:
        return read_partial(file, stop_when=lambda tag, vr, length: tag > OPTICAL_PATH_SEQUENCE)


def _origin(instance: WsiInstance) -> tuple[float, float] | None:
    """Return where the image begins on the glass, in mm, None when it is not said."""
    with contextlib.suppress(AttributeError, IndexError, TypeError, ValueError):
        item = _header(instance).TotalPixelMatrixOriginSequence[0]
        return (
            float(item.XOffsetInSlideCoordinateSystem),
            float(item.YOffsetInSlideCoordinateSystem),
        )
    return None


def _objective_power(instance: WsiInstance) -> float | None:
    """Return the magnification of the first optical path that names one."""
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        for path in _header(instance).OpticalPathSequence:
            power = float(path.get("ObjectiveLensPower") or 0)
            if 0 < power <= 200:
                return power
    return None


def _resolution(instance: WsiInstance, power: float | None) -> tuple[float | None, str]:
    """Return micrometres per level-0 pixel (DICOM says mm) and where that comes from."""
    spacing = instance.pixel_spacing
    if spacing is None and instance.mm_size is not None:
        # Imaged volume width and height are the same fact in another attribute.
        width, height = instance.mm_size.width, instance.mm_size.height
        if width > 0 and height > 0:
            x, y = width / instance.size.width, height / instance.size.height
            return math.sqrt(x * y) * 1000.0, "file"
    if spacing is not None and spacing.width > 0 and spacing.height > 0:
        return math.sqrt(spacing.width * spacing.height) * 1000.0, "file"
    if power:
        return 10.0 / power, "objective_power"
    return None, ""
