"""Procedural tissue in haematoxylin and eosin: `paint_tissue` returns a slide's pixels.

Needs NumPy, SciPy and Pillow only. It draws what makes a pattern recognisable (architecture,
nuclear size and crowding, matrix) and nothing that could be taken for a real patient's tissue.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from cases.demo import nuclei as nuc
from cases.demo import patterns
from cases.demo.canvas import Canvas
from cases.demo.fields import blobs
from cases.demo.stain import SCANNERS, Scanner, developed


def _zone(
    canvas: Canvas, share: float, cell_um: float = 900, within: np.ndarray | None = None
) -> np.ndarray:
    """Return about `share` of the tissue (or of a mask), in a few large coherent parts."""
    whole = canvas.tissue if within is None else within
    field = canvas.noise(cell_um)
    if not whole.any():
        return whole
    return whole & (field > np.quantile(field[whole], 1 - share))


def _component(canvas: Canvas, tumour: np.ndarray, chance: float, most: float) -> np.ndarray:
    """Return the part of the tumour that grows otherwise, in some tumours: often none."""
    if canvas.rng.random() >= chance:
        return np.zeros_like(tumour)
    return _zone(canvas, canvas.rng.uniform(0.15, most), 600, within=tumour)


def _lung_adenocarcinoma(canvas: Canvas) -> None:
    tumour = _zone(canvas, canvas.rng.uniform(0.6, 0.85))
    patterns.alveoli(canvas, canvas.tissue & ~tumour, septum_um=14)
    patterns.stroma(canvas, tumour, density=0.85)
    solid = _component(canvas, tumour, 0.5, 0.5)
    inside = patterns.nests(
        canvas, solid, nuc.ACINAR, size_um=110, share=0.6, spacing_um=11.5, cytoplasm=(0.34, 0.22)
    )
    inside = inside | patterns.glands(
        canvas,
        tumour & ~solid,
        nuc.ACINAR,
        spacing_um=canvas.rng.uniform(105, 125),
        radius_um=(27, 48),
        wall_um=17,
        roughness=0.16,
        crowding_um=8.6,
    )
    matrix = tumour & ~ndimage.binary_dilation(inside, iterations=2)
    patterns.inflammation(canvas, matrix, share=0.3)
    patterns.pigment(canvas, matrix)
    patterns.vessels(canvas, matrix)


def _lung_squamous(canvas: Canvas) -> None:
    tumour = _zone(canvas, canvas.rng.uniform(0.65, 0.88))
    patterns.alveoli(canvas, canvas.tissue & ~tumour, septum_um=14)
    patterns.stroma(canvas, tumour, density=0.7, spindle_um=22)
    inside = patterns.nests(
        canvas,
        tumour,
        nuc.SQUAMOUS,
        size_um=canvas.rng.uniform(130, 190),
        share=canvas.rng.uniform(0.42, 0.54),
        spacing_um=12.5,
        pearls=canvas.rng.uniform(0.2, 1.0),
        body=nuc.SQUAMOUS_BODY,
    )
    patterns.necrosis(canvas, inside & (canvas.noise(500) > canvas.rng.uniform(0.9, 1.7)))
    patterns.inflammation(canvas, tumour & ~inside, share=0.35)


def _lung_normal(canvas: Canvas) -> None:
    patterns.alveoli(canvas, canvas.tissue)
    patterns.pigment(canvas, canvas.e > 0.2)


def _colon_wall(canvas: Canvas, mucosa: np.ndarray) -> None:
    """Paint what lies under the mucosa: muscle, loose submucosa, some fat."""
    below = canvas.tissue & ~mucosa
    depth = ndimage.distance_transform_edt(~mucosa) * canvas.um
    depth += 30 * canvas.noise(200)
    plate = below & (depth < 70)
    patterns.stroma(canvas, below & ~plate, density=0.45, spindle_um=34)
    patterns.muscle(canvas, plate)
    patterns.vessels(canvas, below & ~plate, spacing_um=230)
    patterns.fat(canvas, below & (depth > 260) & (canvas.noise(400) > 0.5))


def _colon_normal(canvas: Canvas) -> None:
    angle = canvas.rng.uniform(0, np.pi)
    mucosa = _zone(canvas, canvas.rng.uniform(0.7, 0.85), 1400)
    patterns.crypts(canvas, mucosa, angle=angle)
    _colon_wall(canvas, mucosa)


def _colon_adenocarcinoma(canvas: Canvas) -> None:
    tumour = _zone(canvas, canvas.rng.uniform(0.62, 0.85))
    rest = canvas.tissue & ~tumour
    muscular = rest & (canvas.noise(600) > 0)
    patterns.stroma(canvas, canvas.tissue & ~muscular, density=0.7)
    patterns.muscle(canvas, muscular)
    mucinous = _component(canvas, tumour, 0.4, 0.35)
    patterns.mucin(canvas, mucinous, nuc.PENCIL)
    tumour = tumour & ~mucinous
    inside = patterns.glands(
        canvas,
        tumour,
        nuc.PENCIL,
        spacing_um=canvas.rng.uniform(145, 195),
        radius_um=(48, 92),
        wall_um=30,
        roughness=0.14,
        layers=1.35,
        cribriform=0.35,
        necrosis=0.5,
        crowding_um=6.6,
    )
    patterns.inflammation(canvas, tumour & ~inside, share=0.25)
    patterns.vessels(canvas, rest)


def _colon_mucinous(canvas: Canvas) -> None:
    tumour = _zone(canvas, canvas.rng.uniform(0.68, 0.9))
    rest = canvas.tissue & ~tumour
    patterns.muscle(canvas, rest)
    patterns.vessels(canvas, rest)
    glandular = _component(canvas, tumour, 0.4, 0.3)
    patterns.stroma(canvas, glandular, density=0.7)
    patterns.glands(
        canvas,
        glandular,
        nuc.MUCINOUS,
        spacing_um=150,
        radius_um=(40, 80),
        wall_um=26,
        roughness=0.15,
        layers=1.2,
    )
    lakes = tumour & ~glandular
    patterns.mucin(canvas, lakes, nuc.MUCINOUS, clusters=canvas.rng.uniform(0.5, 0.8))


def _lymphoma(canvas: Canvas) -> None:
    node = _zone(canvas, canvas.rng.uniform(0.8, 0.93), 1300)
    rim = ndimage.binary_dilation(node, iterations=int(canvas.samples(45))) & ~node
    patterns.fat(canvas, canvas.tissue & ~node)
    patterns.stroma(canvas, rim & canvas.tissue, density=0.95, spindle_um=22)
    patterns.lymphoid_sheet(canvas, node, follicles=canvas.rng.uniform(0.35, 0.7))


def _breast_ductal(canvas: Canvas) -> None:
    tumour = _zone(canvas, canvas.rng.uniform(0.6, 0.82))
    patterns.fat(canvas, canvas.tissue & ~tumour, cell_um=82)
    patterns.stroma(canvas, tumour, density=1.0, spindle_um=24)
    tubular = _component(canvas, tumour, 0.4, 0.4)
    inside = patterns.glands(
        canvas,
        tubular,
        nuc.DUCTAL,
        spacing_um=85,
        radius_um=(18, 34),
        wall_um=14,
        roughness=0.12,
        crowding_um=9.5,
    )
    inside = inside | patterns.nests(
        canvas,
        tumour & ~tubular,
        nuc.DUCTAL,
        size_um=canvas.rng.uniform(48, 66),
        share=canvas.rng.uniform(0.34, 0.46),
        spacing_um=11.0,
        cytoplasm=(0.3, 0.24),
    )
    patterns.inflammation(canvas, tumour & ~inside, share=0.12)
    patterns.vessels(canvas, tumour & ~inside, spacing_um=420)


_PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "lung_adenocarcinoma": _lung_adenocarcinoma,
    "lung_squamous": _lung_squamous,
    "lung_normal": _lung_normal,
    "colon_adenocarcinoma": _colon_adenocarcinoma,
    "colon_mucinous": _colon_mucinous,
    "colon_normal": _colon_normal,
    "lymphoma": _lymphoma,
    "breast_ductal": _breast_ductal,
}

DIAGNOSES = tuple(_PAINTERS)
"""The diagnoses that `paint_tissue` can draw."""


def paint_tissue(
    diagnosis: str,
    seed: int,
    size: tuple[int, int] = (3000, 3000),
    *,
    scanner: Scanner | None = None,
    fragments: int | None = None,
    full_bleed: bool = False,
) -> np.ndarray:
    """Return a synthetic H&E section as RGB (height, width, 3) uint8, the same for one seed.

    Parameters
    ----------
    diagnosis
        One of `DIAGNOSES`; KeyError otherwise.
    seed
        Decides architecture, outline, stain and, when none is given, the scanner.
    size
        (width, height) in pixels; about 0.5 um each, exactly `scanner.mpp`.
    fragments
        Pieces of tissue on the glass, 1 or 2; None: the seed decides.
    full_bleed
        Tissue to every edge instead of an outline on white glass (for single patches).
    """
    painter = _PAINTERS[diagnosis]
    rng = np.random.default_rng([seed, DIAGNOSES.index(diagnosis)])
    if scanner is None:
        scanner = tuple(SCANNERS.values())[int(rng.integers(len(SCANNERS)))]
    canvas = Canvas(rng, size[1], size[0], scanner.mpp)
    pieces = fragments or (2 if rng.random() < 0.3 else 1)
    if not full_bleed:
        canvas.tissue = _outline(canvas, pieces)
    painter(canvas)
    haematoxylin, eosin = canvas.layers()
    return developed(rng, haematoxylin, eosin, scanner)


def _outline(canvas: Canvas, pieces: int) -> np.ndarray:
    """Return where tissue lies: one irregular section, or two beside each other."""
    rng, (rows, columns) = canvas.rng, canvas.shape
    middle = np.array([rows / 2, columns / 2]) + rng.normal(0, 0.02, 2) * (rows, columns)
    if pieces == 1:
        centres = middle[None]
        radius = 0.41 * min(rows, columns)
        stretch = [max(rows, columns) / min(rows, columns)]
    else:
        side = np.array([0.0, columns * 0.25]) if columns >= rows else np.array([rows * 0.25, 0.0])
        centres = np.stack([middle - side, middle + side])
        radius = 0.21 * max(rows, columns)
        stretch = [max(1.0, 0.42 * min(rows, columns) / radius)] * 2
    along = 0.0 if (rows > columns) == (pieces == 1) else np.pi / 2
    field = blobs(
        rng,
        canvas.shape,
        centres,
        np.full(pieces, radius),
        roughness=0.06,
        stretch=np.array(stretch),
        angles=along + rng.normal(0, 0.1, pieces),
    )
    field += canvas.samples(70) * canvas.noise(420) + canvas.samples(10) * canvas.noise(50)
    inside = ndimage.binary_opening(field > 0, iterations=3)
    return ndimage.binary_fill_holes(inside)
