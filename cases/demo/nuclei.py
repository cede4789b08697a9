"""Stamps of single cells: the haematoxylin of nuclei, the eosin of red blood cells."""

from dataclasses import dataclass

import numpy as np

ANGLES = 12
SHAPES = 10
OD_UNITS = 100.0
"""Optical densities are kept as bytes: units per 1.0 (base e)."""


@dataclass(frozen=True)
class Nucleus:
    """How one kind of nucleus looks. Lengths in um, densities as optical density."""

    length_um: float
    width_um: float
    density: float
    spread: float = 0.12
    """Deviation of the size, as a share: pleomorphism."""
    roughness: float = 0.04
    """How far the outline leaves the ellipse."""
    chromatin: float = 0.25
    """Contrast of clumps inside."""
    open_centre: float = 0.0
    """How much paler than its rim the inside is: vesicular nuclei near 0.5."""
    nucleolus: float = 0.0
    """Chance of a prominent nucleolus."""
    stains: str = "h"
    """Layers it is pressed onto: h, e or both."""


LYMPHOCYTE = Nucleus(6.0, 5.6, 1.75, spread=0.07, chromatin=0.3)
PLASMA = Nucleus(6.2, 5.6, 1.55, spread=0.06, chromatin=0.5)
CENTROBLAST = Nucleus(10.0, 9.0, 1.25, open_centre=0.45, chromatin=0.35, nucleolus=0.7)
CENTROCYTE = Nucleus(7.6, 5.6, 1.15, spread=0.1, roughness=0.1, chromatin=0.3)
FIBROBLAST = Nucleus(15.0, 3.0, 1.25, spread=0.2, chromatin=0.2)
MUSCLE = Nucleus(17.0, 3.4, 1.1, spread=0.12, chromatin=0.15)
PNEUMOCYTE = Nucleus(7.0, 4.6, 1.3, spread=0.12)
CRYPT = Nucleus(8.0, 5.0, 1.3, spread=0.08, chromatin=0.2)
ACINAR = Nucleus(
    10.0, 7.8, 1.2, spread=0.18, roughness=0.08, open_centre=0.35, chromatin=0.3, nucleolus=0.6
)
PENCIL = Nucleus(15.0, 5.2, 1.45, spread=0.16, roughness=0.05, open_centre=0.1, chromatin=0.4)
SQUAMOUS = Nucleus(
    10.0, 8.0, 1.35, spread=0.24, roughness=0.1, open_centre=0.25, chromatin=0.35, nucleolus=0.25
)
DUCTAL = Nucleus(
    10.0, 8.6, 1.2, spread=0.22, roughness=0.1, open_centre=0.35, chromatin=0.35, nucleolus=0.5
)
MUCINOUS = Nucleus(10.0, 7.5, 1.45, spread=0.2, roughness=0.08, open_centre=0.1, chromatin=0.4)
DEBRIS = Nucleus(2.6, 2.2, 1.6, spread=0.45, roughness=0.15, chromatin=0.1)
PIGMENT = Nucleus(1.8, 1.6, 2.5, spread=0.5, roughness=0.2, chromatin=0.0, stains="he")
RED_CELL = Nucleus(6.2, 5.6, 0.95, spread=0.06, chromatin=0.0, open_centre=0.2, stains="e")
SQUAMOUS_BODY = Nucleus(
    18.0, 15.0, 0.62, spread=0.14, roughness=0.08, chromatin=0.06, open_centre=0.25, stains="e"
)


def stamps(rng: np.random.Generator, kind: Nucleus, mpp: float) -> list[np.ndarray]:
    """Return ANGLES * SHAPES stamps (uint8, square, one size), angle-major, of this kind."""
    largest = kind.length_um * (1 + 3 * kind.spread) / 2 / mpp
    reach = int(np.ceil(largest * (1 + 2 * kind.roughness))) + 2
    side = 2 * reach + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    pressed = []
    for angle in range(ANGLES):
        for _ in range(SHAPES):
            theta = (angle + rng.uniform(-0.4, 0.4)) * np.pi / ANGLES
            size = float(np.clip(rng.normal(1, kind.spread), 0.55, 1 + 3 * kind.spread))
            a = kind.length_um / 2 / mpp * size
            b = kind.width_um / 2 / mpp * size * float(rng.normal(1, kind.spread / 2))
            along = y * np.cos(theta) + x * np.sin(theta)
            across = x * np.cos(theta) - y * np.sin(theta)
            turn = np.arctan2(across / b, along / a)
            edge = 1 + sum(
                rng.normal(0, kind.roughness / (n - 1)) * np.cos(n * turn + rng.uniform(0, 6.3))
                for n in (2, 3, 4)
            )
            radius = np.hypot(along / a, across / b) / edge
            cover = np.clip((1 - radius) * b / 1.1 + 0.5, 0, 1)
            clumps = _clumps(rng, side, max(0.9 / mpp, 1.0))
            inside = 1 - kind.open_centre * np.clip(1.15 - radius**2, 0, 1)
            body = inside * (1 + kind.chromatin * clumps) + 0.12 * (radius > 0.72)
            if rng.random() < kind.nucleolus:
                spot = rng.uniform(-0.3, 0.3, 2) * (a, b)
                away = np.hypot(along - spot[0], across - spot[1]) * mpp
                body += 0.7 * np.clip(1.6 - away, 0, 1)
            od = kind.density * float(rng.normal(1, 0.09)) * np.clip(body, 0.2, 2) * cover
            pressed.append(np.clip(od * OD_UNITS, 0, 255).astype(np.uint8))
    return pressed


def place(
    layer: np.ndarray, margin: int, stamps: list[np.ndarray], points: np.ndarray, picks: np.ndarray
) -> None:
    """Press stamps onto a padded layer (uint8) where darker wins.

    `points` (N, 2) in pixels without the margin, `picks` (N,) index the stamps.
    """
    side = stamps[0].shape[0]
    corners = np.rint(points).astype(np.intp) + (margin - side // 2)
    for row, column, pick in zip(
        corners[:, 0].tolist(), corners[:, 1].tolist(), picks.tolist(), strict=True
    ):
        part = layer[row : row + side, column : column + side]
        np.maximum(part, stamps[pick], out=part)


def _clumps(rng: np.random.Generator, side: int, cell: float) -> np.ndarray:
    """Return blotchy noise (side, side) of deviation about 1."""
    coarse = rng.standard_normal((int(side / cell) + 3,) * 2).astype(np.float32)
    at = np.arange(side) / cell
    low = at.astype(int)
    t = (at - low).astype(np.float32)
    rows = coarse[low] * (1 - t)[:, None] + coarse[low + 1] * t[:, None]
    return rows[:, low] * (1 - t) + rows[:, low + 1] * t
