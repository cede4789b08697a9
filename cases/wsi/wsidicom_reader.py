"""DICOM whole slide series through wsidicom: the one place that knows its classes.

wsidicom's instances are used directly rather than its pyramid, which needs a spacing, one
tile size, and levels at powers of two. Positions here are pixels of the level itself.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom.config
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from wsidicom.config import Settings, use_settings
from wsidicom.errors import WsiDicomError
from wsidicom.file import WsiDicomFileSource
from wsidicom.geometry import Point
from wsidicom.instance import ImageData, WsiInstance

from cases.wsi.errors import CorruptError, NoVolumeError, UnsupportedImageError
from cases.wsi.fluorescence import Channel, colours_of, compose, stretch
from cases.wsi.regions import RegionReader
from cases.wsi.values import Rgb
from cases.wsi.wsidicom_repairs import ReadingCodec, repair

# Both log header values, which may be a patient's; what matters is raised as an error instead.
logging.getLogger("wsidicom").setLevel(logging.CRITICAL)
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

SETTINGS = Settings(
    strict_tile_size_check=False,
    decoded_frame_cache_size=32 * 2**20,
    encoded_frame_cache_size=0,
)
Counts = npt.NDArray[np.uint16]
STRETCH_PX = 4096
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
                    repair(reader)
                instances = list(self._source.level_instances)
                labels = list(self._source.label_instances)
        except WsiDicomError as error:
            raise NoVolumeError from error
        except (ValueError, KeyError, AttributeError, EOFError, NotImplementedError) as error:
            raise CorruptError("The DICOM series cannot be opened.") from error
        try:
            chosen = _pyramid(instances)
            self._levels = _planes(chosen, instances)
            self._set_levels([plane.size for plane in self._levels])
            self._label = _Plane(labels[0]) if labels else None
        except BaseException:
            self._source.close()
            raise
        self.has_label_image = self._label is not None
        self.objective_power = _objective_power(chosen[0])
        self.mpp, self.mpp_source = _resolution(chosen[0], self.objective_power)
        self._profile_of = chosen[0] if chosen[0].image_data.samples_per_pixel == 3 else None

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Rgb:
        return self._levels[level].read(x, y, width, height)

    def icc_profile(self) -> bytes | None:
        """Return the ICC Profile (0028,2000) of the optical path; channels of light have none."""
        return _icc_profile(self._profile_of) if self._profile_of is not None else None

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

    def __init__(self, instance: WsiInstance, path: str | None = None) -> None:
        self._data: ImageData = instance.image_data
        self.size = (instance.size.width, instance.size.height)
        self._tile = (instance.tile_size.width, instance.tile_size.height)
        self._z, self._path = self._data.default_z, path or self._data.default_path
        self._shift = max(0, self._data.bits - 8)

    def read(self, x: int, y: int, width: int, height: int) -> Rgb:
        tile = np.empty((height, width, 3), np.uint8)
        self._fill(tile, x, y, self._decode)
        return tile

    def read_counts(self, x: int, y: int, width: int, height: int) -> Counts:
        """Return what the camera counted: (height, width)."""
        counts = np.empty((height, width, 1), np.uint16)
        self._fill(counts, x, y, self._decode_counts)
        return counts[..., 0]

    def _fill(self, out: Any, x: int, y: int, decode: Callable[[int, int], Any]) -> None:
        """Fill an array with the tiles that lie in it."""
        tile_width, tile_height = self._tile
        height, width = out.shape[:2]
        for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
            top, bottom = max(y, row * tile_height), min(y + height, (row + 1) * tile_height)
            for column in range(x // tile_width, (x + width - 1) // tile_width + 1):
                left, right = max(x, column * tile_width), min(x + width, (column + 1) * tile_width)
                tile = decode(column, row)
                out[top - y : bottom - y, left - x : right - x] = tile[
                    top - row * tile_height : bottom - row * tile_height,
                    left - column * tile_width : right - column * tile_width,
                ]

    def _decode(self, column: int, row: int) -> Any:
        """Return a tile as uint8 (rows, columns, 3), or (rows, columns, 1) for one channel."""
        tile = self._decode_counts(column, row)
        return (tile >> self._shift).astype(np.uint8) if self._shift else tile

    def _decode_counts(self, column: int, row: int) -> Any:
        """Return a tile as it is coded, with an axis for its samples."""
        try:
            tile = self._data.get_decoded_tile(Point(column, row), self._z, self._path)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise what they like
            raise CorruptError("Image data of the DICOM instance cannot be decoded.") from error
        return tile if tile.ndim == 3 else tile[..., np.newaxis]


class _Channels:
    """The monochrome optical paths of a level as one coloured picture."""

    def __init__(self, planes: Sequence[_Plane], channels: Sequence[Channel]) -> None:
        self.size = planes[0].size
        self._planes, self._channels = planes, channels

    def read(self, x: int, y: int, width: int, height: int) -> Rgb:
        counts = [plane.read_counts(x, y, width, height) for plane in self._planes]
        return compose(counts, self._channels)


def _planes(
    chosen: Sequence[WsiInstance], instances: Sequence[WsiInstance]
) -> list[_Plane] | list[_Channels]:
    """Return each level as pixels, with all its optical paths where they are monochrome."""
    if chosen[0].image_data.samples_per_pixel != 1:
        return [_Plane(instance) for instance in chosen]
    levels: list[dict[str, _Plane]] = []
    for instance in chosen:
        # A path may lie in an instance of its own, of the same size and focal plane.
        level: dict[str, _Plane] = {}
        for other in [instance, *instances]:
            if other.size == instance.size and other.default_z == instance.default_z:
                for path in other.optical_paths:
                    level.setdefault(path, _Plane(other, path))
        levels.append(level)
    common = sorted(set.intersection(*(set(level) for level in levels)))
    colours = colours_of([_wavelengths(instances).get(path) for path in common])
    coarse = [levels[-1][path] for path in common]
    channels = [
        stretch(plane.read_counts(*_middle(plane.size)), colour)
        for plane, colour in zip(coarse, colours, strict=True)
    ]
    return [_Channels([level[path] for path in common], channels) for level in levels]


def _middle(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return x, y, width and height of the middle of a level, not too large to be looked at."""
    width, height = min(size[0], STRETCH_PX), min(size[1], STRETCH_PX)
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height


def _wavelengths(instances: Sequence[WsiInstance]) -> dict[str, float]:
    """Return the light of each optical path in nm, where the headers say it."""
    found: dict[str, float] = {}
    for instance in instances:
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            for path in _header(instance).OpticalPathSequence:
                wavelength = float(path.get("IlluminationWaveLength") or 0)
                if wavelength:
                    found.setdefault(str(path.OpticalPathIdentifier), wavelength)
    return found


def can_decode(transfer_syntax_uid: str, samples: int, bits: int, photometric: str) -> bool:
    """Return whether frames of this kind can be decoded with what is installed."""
    uid = UID(transfer_syntax_uid)
    if uid not in (ImplicitVRLittleEndian, ExplicitVRLittleEndian) and not (
        uid.is_transfer_syntax and uid.is_encapsulated
    ):
        return False
    try:
        return ReadingCodec.is_supported(uid, samples, bits, photometric)
    except ValueError:
        return False


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


def _icc_profile(instance: WsiInstance) -> bytes | None:
    """Return the profile of the optical path that is shown, as the header has it."""
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        for path in _header(instance).OpticalPathSequence:
            if str(path.get("OpticalPathIdentifier", "")) == instance.default_path:
                return bytes(path.ICCProfile)
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
