"""Slides made of labelled patches, to measure the whole way from pixels to a ranking.

LC25000 (Borkowski et al., arXiv 1912.12142) holds augmented copies of few original images. All
copies of one original image, its prototype, are dealt to one slide, so that no query can find
another copy of its own pixels.
"""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cases.demo.pyramid import pyramid
from cases.demo.tiff import write_tiff
from retrieval.engine.errors import DataUnusable

UInt8Array = npt.NDArray[np.uint8]
GLASS = 243


@dataclass(frozen=True)
class LabelledPatch:
    """A picture in the archive: its path, its label and the original image it comes from."""

    path: str
    label: str
    prototype: str


@dataclass(frozen=True)
class MadeSlide:
    """Patches of one label that will be one slide."""

    name: str
    label: str
    patches: tuple[LabelledPatch, ...]


def read_patch_list(path: Path) -> list[LabelledPatch]:
    """Return the rows of a CSV with the columns path, label, prototype.

    Raises
    ------
    DataUnusable
        The file is missing or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                LabelledPatch(row["path"], row["label"], row["prototype"])
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError) as error:
        raise DataUnusable(
            f"{path.name} cannot be read: a CSV with path, label and prototype is needed."
        ) from error


def deal_slides(
    patches: Sequence[LabelledPatch], *, prototypes_per_slide: int = 4, seed: int = 0
) -> list[MadeSlide]:
    """Deal whole prototypes to slides of one label each; a label's remainder is left out.

    Raises
    ------
    ValueError
        A prototype with two labels: its copies would be in two slides.
    """
    members: dict[str, list[LabelledPatch]] = {}
    for patch in patches:
        members.setdefault(patch.prototype, []).append(patch)
    labels: dict[str, list[str]] = {}
    for prototype, own in members.items():
        if len({patch.label for patch in own}) > 1:
            raise ValueError(f"the prototype {prototype} has several labels")
        labels.setdefault(own[0].label, []).append(prototype)
    rng = np.random.default_rng(seed)
    slides = []
    for label in sorted(labels):
        order = rng.permutation(len(labels[label]))
        for start in range(0, len(order) - prototypes_per_slide + 1, prototypes_per_slide):
            chosen = [labels[label][i] for i in order[start : start + prototypes_per_slide]]
            name = f"{label}-{start // prototypes_per_slide}"
            shown = tuple(patch for prototype in chosen for patch in members[prototype])
            slides.append(MadeSlide(name, label, shown))
    return slides


def columns_of(count: int) -> int:
    """Return how many tiles lie side by side on a slide of so many tiles."""
    return int(np.ceil(np.sqrt(count)))


def slide_pixels(tiles: Sequence[UInt8Array]) -> UInt8Array:
    """Return RGB (H, W, 3): equal square tiles, side by side, with one tile of glass around."""
    side = tiles[0].shape[0]
    columns = columns_of(len(tiles))
    rows = -(-len(tiles) // columns)
    rgb = np.full(((rows + 2) * side, (columns + 2) * side, 3), GLASS, np.uint8)
    for place, tile in enumerate(tiles):
        if tile.shape != (side, side, 3):
            raise ValueError(f"a tile is {tile.shape}, the others are {(side, side, 3)}")
        y, x = (place // columns + 1) * side, (place % columns + 1) * side
        rgb[y : y + side, x : x + side] = tile
    return rgb


def prototypes_at(slide: MadeSlide, coords_l0: npt.NDArray[np.int64], side_l0: int) -> list[str]:
    """Return the prototype at each place (N, 2) of patches as large as the tiles; "" on glass."""
    columns = columns_of(len(slide.patches))
    found = []
    for x, y in (np.rint(coords_l0 / side_l0).astype(int) - 1).tolist():
        place = y * columns + x
        inside = 0 <= x < columns and 0 <= place < len(slide.patches)
        found.append(slide.patches[place].prototype if inside else "")
    return found


def write_slide(path: Path, tiles: Sequence[UInt8Array], mpp: float) -> None:
    """Write the tiles as a pyramidal TIFF that says its um per pixel."""
    levels = pyramid(slide_pixels(tiles), quality=95)
    write_tiff(path, levels, mpp, description="made of labelled patches", model="made")


class PatchArchive:
    """The pictures in a ZIP file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def read(self, slide: MadeSlide) -> list[UInt8Array]:
        """Return uint8 RGB pictures of a slide's patches."""
        tiles = []
        for patch in slide.patches:
            with Image.open(io.BytesIO(self._archive.read(patch.path))) as picture:
                tiles.append(np.asarray(picture.convert("RGB")))
        return tiles


@contextmanager
def open_archive(path: Path) -> Iterator[PatchArchive]:
    """Open a ZIP of pictures. Raises DataUnusable where it is missing or damaged."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataUnusable(f"{path.name} is missing or no ZIP file.") from error
    with archive:
        yield PatchArchive(archive)
