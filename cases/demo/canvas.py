"""The sheet that tissue is painted on: low-resolution densities, fibres, and cells to stamp."""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from cases.demo import nuclei as nuc
from cases.demo.fields import STEP, directions, layered_noise, resized, scattered, smooth_noise

_MARGIN = 80


@dataclass
class Canvas:
    """Densities of haematoxylin `h` and eosin `e` on a grid of STEP pixels.

    `fibre` (0 to 1) says where collagen or muscle runs; `tissue` where there is tissue.
    """

    rng: np.random.Generator
    height: int
    width: int
    mpp: float
    h: np.ndarray = field(init=False)
    e: np.ndarray = field(init=False)
    fibre: np.ndarray = field(init=False)
    phase: np.ndarray = field(init=False)
    tissue: np.ndarray = field(init=False)
    owner: np.ndarray = field(init=False)
    """Which fill was the last at each place: its cells stay, those under it are gone."""
    stamped: list[tuple[nuc.Nucleus, np.ndarray, np.ndarray | None, np.ndarray]] = field(
        default_factory=list
    )
    fills: int = 0

    def __post_init__(self) -> None:
        shape = self.shape
        self.h = np.zeros(shape, np.float32)
        self.e = np.zeros(shape, np.float32)
        self.fibre = np.zeros(shape, np.float32)
        self.tissue = np.ones(shape, bool)
        self.owner = np.zeros(shape, np.int16)
        angle = self.rng.uniform(0, np.pi)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        wave = smooth_noise(self.rng, shape, self.samples(420)) * self.samples(90)
        curl = smooth_noise(self.rng, shape, self.samples(60)) * self.samples(7)
        # Lines of equal phase are the fibres: they bend together and never cross.
        self.phase = y * np.cos(angle) + x * np.sin(angle) + wave + curl

    @property
    def shape(self) -> tuple[int, int]:
        """Return the rows and columns of the low-resolution grid."""
        return -(-self.height // STEP), -(-self.width // STEP)

    @property
    def um(self) -> float:
        """Return the size of a low-resolution sample in um."""
        return self.mpp * STEP

    def samples(self, length_um: float) -> float:
        """Return a length in low-resolution samples."""
        return length_um / self.um

    def noise(self, cell_um: float) -> np.ndarray:
        """Return layered noise on the low-resolution grid."""
        return layered_noise(self.rng, self.shape, max(self.samples(cell_um), 1.0))

    def fill(self, mask: np.ndarray, *, h: float = 0.0, e: float = 0.0, fibre: float = 0.0) -> None:
        """Paint flat densities over a mask; cells that were there before are painted over."""
        self.h[mask], self.e[mask], self.fibre[mask] = h, e, fibre
        self.fills += 1
        self.owner[mask] = self.fills

    def cells(
        self,
        kind: nuc.Nucleus,
        where: np.ndarray,
        spacing_um: float,
        *,
        along: np.ndarray | None = None,
    ) -> None:
        """Scatter nuclei with chance `where` (grid), long axis up the slope of field `along`."""
        points = scattered(self.rng, where, self.samples(spacing_um))
        angles = None if along is None else directions(along, points)
        self._keep(kind, points, angles)

    def spindles(self, where: np.ndarray, spacing_um: float, kind: nuc.Nucleus) -> None:
        """Scatter nuclei that lie along the fibres."""
        points = scattered(self.rng, where, self.samples(spacing_um))
        angles = directions(self.phase, points) + np.pi / 2
        self._keep(kind, points, angles + self.rng.normal(0, 0.12, len(points)))

    def _keep(self, kind: nuc.Nucleus, points: np.ndarray, angles: np.ndarray | None) -> None:
        at = points.astype(np.intp)
        self.stamped.append((kind, points, angles, self.owner[at[:, 0], at[:, 1]]))

    def layers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return haematoxylin and eosin (height, width) as uint8 in OD units, cells stamped."""
        rng, size = self.rng, (self.shape[0] * STEP, self.shape[1] * STEP)
        grain = _grain(rng, size)
        eosin = resized(self._softened(self.e), size)
        fibre = resized(self._softened(self.fibre), size, smooth=False)
        table = _fibre_table(rng)
        index = resized(self.phase, size)
        index *= STEP * 8
        index += grain * 5
        eosin += fibre * table[index.astype(np.int32) % len(table)]
        eosin *= 1 + 0.11 * grain
        haematoxylin = resized(self._softened(self.h), size)
        haematoxylin *= 1 + 0.2 * grain
        h, e = _as_bytes(haematoxylin), _as_bytes(eosin)
        self._stamp(h, e)
        return self._cropped(h), self._cropped(e)

    def _softened(self, layer: np.ndarray) -> np.ndarray:
        # Masks have stairs of STEP pixels, which tissue has not.
        return ndimage.gaussian_filter(np.where(self.tissue, layer, 0), 0.75)

    def _stamp(self, h: np.ndarray, e: np.ndarray) -> None:
        """Press every cell that nothing was painted over onto the layer of its stain."""
        libraries: dict[nuc.Nucleus, list[np.ndarray]] = {}
        for kind, points, angles, owner in self.stamped:
            if kind not in libraries:
                libraries[kind] = nuc.stamps(self.rng, kind, self.mpp)
            at = points.astype(np.intp)
            shown = self.tissue[at[:, 0], at[:, 1]] & (self.owner[at[:, 0], at[:, 1]] == owner)
            points = points[shown]
            if angles is None:
                turn = self.rng.integers(0, nuc.ANGLES, len(points))
            else:
                turn = np.rint(angles[shown] * nuc.ANGLES / np.pi).astype(np.intp) % nuc.ANGLES
            picks = turn * nuc.SHAPES + self.rng.integers(0, nuc.SHAPES, len(points))
            for stain, layer in (("h", h), ("e", e)):
                if stain in kind.stains:
                    nuc.place(layer, _MARGIN, libraries[kind], points * STEP, picks)

    def _cropped(self, layer: np.ndarray) -> np.ndarray:
        return layer[_MARGIN : _MARGIN + self.height, _MARGIN : _MARGIN + self.width]


def _as_bytes(layer: np.ndarray) -> np.ndarray:
    """Return densities as bytes with a margin, so that no stamp meets an edge."""
    layer *= nuc.OD_UNITS
    np.clip(layer, 0, 255, out=layer)
    return np.pad(layer.astype(np.uint8), _MARGIN)


def _grain(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return fine texture (rows, columns) float32: one square, repeated at a random start."""
    side = 1024
    square = smooth_noise(rng, (side, side), 2.2) + 0.7 * smooth_noise(rng, (side, side), 7)
    square -= square.mean()
    repeats = (-(-size[0] // side), -(-size[1] // side))
    return np.tile(square, repeats)[: size[0], : size[1]]


def _fibre_table(rng: np.random.Generator) -> np.ndarray:
    """Return the eosin of 4096 neighbouring fibres: bundles, single fibres and gaps."""
    table = np.zeros(4096, np.float32)
    for width, share in ((90, 0.5), (34, 0.6), (12, 0.35)):
        knots = rng.standard_normal(4096 // width + 1).astype(np.float32)
        table += share * np.interp(np.arange(4096), np.linspace(0, 4095, len(knots)), knots)
    return np.clip(0.46 + 0.24 * table, 0.0, 1.0).astype(np.float32)
