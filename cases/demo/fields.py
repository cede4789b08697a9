"""Random fields and point sets that the tissue painter builds on. Plain NumPy, SciPy, Pillow.

Low-resolution fields have `STEP` level-0 pixels per sample; the painter enlarges them.
"""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

STEP = 4
"""Level-0 pixels per sample of a low-resolution field."""


def resized(field: np.ndarray, shape: tuple[int, int], *, smooth: bool = True) -> np.ndarray:
    """Return a float32 field (H, W) interpolated to `shape` (rows, columns)."""
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32), mode="F")
    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    return np.array(image.resize((shape[1], shape[0]), method))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return noise (H, W) of mean 0 and deviation about 1 that changes over `cell` samples."""
    rows = max(int(np.ceil(shape[0] / cell)), 1) + 4
    columns = max(int(np.ceil(shape[1] / cell)), 1) + 4
    grid = rng.standard_normal((rows, columns)).astype(np.float32)
    height, width = int(rows * cell) + 1, int(columns * cell) + 1
    big = resized(grid, (max(height, shape[0]), max(width, shape[1])))
    top, left = (big.shape[0] - shape[0]) // 2, (big.shape[1] - shape[1]) // 2
    field = big[top : top + shape[0], left : left + shape[1]]
    # Interpolation takes some of the variance away; this puts it back.
    return field * np.float32(1.35)


def layered_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return noise with detail down to a quarter of `cell`: mean 0, deviation about 1."""
    return (
        smooth_noise(rng, shape, cell)
        + 0.5 * smooth_noise(rng, shape, max(cell / 2, 1.0))
        + 0.25 * smooth_noise(rng, shape, max(cell / 4, 1.0))
    ) / np.float32(1.15)


def scattered(rng: np.random.Generator, weight: np.ndarray, spacing: float) -> np.ndarray:
    """Return points (N, 2) as float (row, column), about `spacing` apart, where `weight` lets them.

    `weight` (H, W) is the chance, 0 to 1, that a place of the jittered grid is kept.
    """
    rows = np.arange(spacing / 2, weight.shape[0], spacing)
    columns = np.arange(spacing / 2, weight.shape[1], spacing)
    if not len(rows) or not len(columns):
        return np.empty((0, 2), np.float32)
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    points[1::2, :, 1] += spacing / 2
    points = points.reshape(-1, 2) + rng.uniform(-0.42, 0.42, (points.size // 2, 2)) * spacing
    np.clip(points, 0, (weight.shape[0] - 1.01, weight.shape[1] - 1.01), out=points)
    at = points.astype(np.intp)
    kept = rng.random(len(points)) < weight[at[:, 0], at[:, 1]]
    return points[kept].astype(np.float32)


def cells(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float, *, wobble: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a Voronoi tissue: distance to the border, own cell and neighbour of every sample.

    Lengths in samples. `wobble` (in spacings) bends the straight borders.
    """
    small = (shape[0] // 2 + 2, shape[1] // 2 + 2)
    centres = scattered(rng, np.ones((small[0] + 40, small[1] + 40), bool), spacing / 2) - 20
    grid = np.stack(np.meshgrid(np.arange(small[0]), np.arange(small[1]), indexing="ij"), -1)
    places = grid.astype(np.float32)
    if wobble:
        for axis in (0, 1):
            places[..., axis] += wobble * spacing / 2 * smooth_noise(rng, small, spacing / 4)
    distance, index = cKDTree(centres).query(places.reshape(-1, 2), k=2)
    border = (distance[:, 1] - distance[:, 0]).reshape(small).astype(np.float32)
    own, other = (index[:, k].reshape(small) for k in (0, 1))
    doubled = tuple(2 * n for n in small)
    border = resized(border, doubled, smooth=False)[: shape[0], : shape[1]]
    own, other = (np.repeat(np.repeat(a, 2, 0), 2, 1)[: shape[0], : shape[1]] for a in (own, other))
    return border, own, other


def blobs(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centres: np.ndarray,
    radii: np.ndarray,
    *,
    roughness: float = 0.15,
    stretch: np.ndarray | None = None,
    angles: np.ndarray | None = None,
) -> np.ndarray:
    """Return a field that is positive inside the union of round shapes, in samples.

    `stretch` >= 1 draws each into a capsule along its `angles` (radians, from the row axis).
    """
    field = np.full(shape, -1e3, np.float32)
    count = len(centres)
    stretch = np.ones(count) if stretch is None else stretch
    angles = rng.uniform(0, np.pi, count) if angles is None else angles
    phases = rng.uniform(0, 2 * np.pi, (count, 3))
    powers = rng.normal(0, roughness, (count, 3)) * (1.0, 0.7, 0.5)
    for k in range(count):
        row, column = centres[k]
        reach = int(radii[k] * (1 + 3 * roughness) + radii[k] * (stretch[k] - 1)) + 2
        top, left = max(int(row) - reach, 0), max(int(column) - reach, 0)
        part = field[top : int(row) + reach, left : int(column) + reach]
        if not part.size:
            continue
        y = np.arange(top, top + part.shape[0], dtype=np.float32)[:, None] - row
        x = np.arange(left, left + part.shape[1], dtype=np.float32)[None, :] - column
        along = y * np.cos(angles[k]) + x * np.sin(angles[k])
        across = x * np.cos(angles[k]) - y * np.sin(angles[k])
        half = radii[k] * (stretch[k] - 1)
        along = along - np.clip(along, -half, half)
        theta = np.arctan2(across, along)
        edge = 1 + sum(powers[k, n] * np.cos((n + 2) * theta + phases[k, n]) for n in range(3))
        np.maximum(part, radii[k] * edge - np.hypot(along, across), out=part)
    return field


def inside_distance(mask: np.ndarray) -> np.ndarray:
    """Return how far each sample of the mask lies from its edge, in samples; 0 outside."""
    return ndimage.distance_transform_edt(mask).astype(np.float32)


def directions(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the angle (radians, from the row axis) in which the field rises at the points."""
    at = np.clip(points.astype(np.intp), 1, np.array(field.shape) - 2)
    row, column = at[:, 0], at[:, 1]
    return np.arctan2(
        field[row, column + 1] - field[row, column - 1],
        field[row + 1, column] - field[row - 1, column],
    )
