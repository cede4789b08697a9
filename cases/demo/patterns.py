"""What tissue is made of: each function paints one structure into a region of the canvas.

Lengths in um. `region` is a mask on the canvas grid.
"""

import numpy as np
from scipy import ndimage

from cases.demo import nuclei as nuc
from cases.demo.canvas import Canvas
from cases.demo.fields import blobs, cells, inside_distance, scattered


def stroma(
    canvas: Canvas, region: np.ndarray, *, density: float = 0.8, spindle_um: float = 26.0
) -> None:
    """Collagen with spindle nuclei; `density` near 1 is a scar, 0.4 is loose."""
    canvas.fill(region, e=0.1, h=0.05)
    bundles = density * (1 + 0.3 * canvas.noise(70))
    canvas.fibre[region] = np.clip(bundles, 0.1, 1.2)[region]
    canvas.spindles(region, spindle_um, nuc.FIBROBLAST)


def muscle(canvas: Canvas, region: np.ndarray) -> None:
    """Smooth muscle: even, eosinophilic, many long nuclei all along the fibres."""
    canvas.fill(region, e=0.38, h=0.08, fibre=0.42)
    canvas.spindles(region, 17, nuc.MUSCLE)


def inflammation(
    canvas: Canvas, region: np.ndarray, *, share: float = 0.25, cell_um: float = 120
) -> None:
    """Clusters of lymphocytes and plasma cells."""
    clouds = np.clip(canvas.noise(cell_um) - (1.3 - 2.2 * share), 0, 1) * region
    canvas.cells(nuc.LYMPHOCYTE, clouds * 0.8, 7.5)
    canvas.cells(nuc.PLASMA, clouds * 0.25, 9)


def vessels(canvas: Canvas, region: np.ndarray, *, spacing_um: float = 320) -> None:
    """Small vessels: a thin muscular wall around red blood cells."""
    roomy = inside_distance(region) * canvas.um > 30
    centres = scattered(canvas.rng, roomy * 0.7, canvas.samples(spacing_um))
    if not len(centres):
        return
    radii = canvas.samples(1) * canvas.rng.uniform(9, 30, len(centres))
    field = blobs(
        canvas.rng,
        canvas.shape,
        centres,
        radii,
        roughness=0.12,
        stretch=canvas.rng.uniform(1, 2.2, len(centres)),
    )
    inside = (field > 0) & region
    wall = (field > -canvas.samples(6)) & region
    canvas.fill(wall, e=0.5, h=0.1, fibre=0.2)
    canvas.fill(inside, e=0.04)
    canvas.cells(nuc.PNEUMOCYTE, (wall & ~inside) * 0.5, 9, along=canvas.phase)
    canvas.cells(nuc.RED_CELL, inside & (canvas.noise(60) > -0.6), 6.5)


def fat(canvas: Canvas, region: np.ndarray, *, cell_um: float = 75) -> None:
    """Adipose tissue: empty cells with a thin membrane and few, flat nuclei."""
    border, _, _ = cells(canvas.rng, canvas.shape, canvas.samples(cell_um), wobble=0.06)
    canvas.fill(region, e=0.0)
    membrane = np.clip(1.5 - border * canvas.um / 2.4, 0, 1)
    canvas.e[region] = 0.42 * membrane[region]
    canvas.h[region] = 0.08 * membrane[region]
    canvas.cells(nuc.FIBROBLAST, region * (membrane > 0.5) * 0.10, 14, along=border)


def alveoli(canvas: Canvas, region: np.ndarray, *, septum_um: float = 7) -> None:
    """Normal lung: air spaces between thin septa with capillaries, some macrophages."""
    rng = canvas.rng
    border, own, other = cells(rng, canvas.shape, canvas.samples(115), wobble=0.10)
    # Alveoli open into a common duct: some pairs of neighbours have no wall between them.
    pair = np.minimum(own, other) * 7919 + np.maximum(own, other)
    open_wall = (pair * 2654435761 % 1000) < 200
    width = septum_um * (1 + 0.3 * canvas.noise(120))
    wall = (border * canvas.um < width) & ~open_wall & region
    canvas.fill(region, e=0.0)
    canvas.fill(wall, e=0.34, h=0.1, fibre=0.12)
    canvas.cells(nuc.PNEUMOCYTE, wall * 0.75, 9.5, along=canvas.phase)
    canvas.cells(nuc.RED_CELL, (wall & (canvas.noise(60) > 0.5)) * 0.8, 8)
    air = region & ~wall
    macrophages = air & (canvas.noise(200) > 1.1)
    canvas.cells(nuc.PLASMA, macrophages * 0.10, 14)
    vessels(canvas, region & (canvas.noise(250) > 0.9), spacing_um=260)


def crypts(canvas: Canvas, region: np.ndarray, *, angle: float) -> None:
    """Normal colon mucosa: straight test tubes with goblet cells in a cellular lamina propria."""
    rng = canvas.rng
    canvas.fill(region, e=0.3, h=0.1, fibre=0.22)
    canvas.cells(nuc.PLASMA, region * 0.5, 10)
    canvas.cells(nuc.LYMPHOCYTE, region * 0.25, 10)
    canvas.spindles(region * 0.6, 30, nuc.FIBROBLAST)
    centres = scattered(rng, region.astype(float), canvas.samples(91))
    count = len(centres)
    # One end of the section cuts the tubes lengthwise, the other across.
    lengthwise = canvas.noise(700)[tuple(centres.astype(int).T)] > 0.15
    stretch = np.where(lengthwise, rng.uniform(1.6, 3.2, count), rng.uniform(1.0, 1.25, count))
    radii = canvas.samples(1) * rng.normal(38, 3, count)
    field = blobs(
        rng,
        canvas.shape,
        centres,
        radii,
        roughness=0.035,
        stretch=stretch,
        angles=angle + rng.normal(0, 0.12, count),
    )
    inside = (field > 0) & region
    # Depth in the own tube: where two tubes touch, each keeps its epithelium.
    deep = field * canvas.um
    lumen = deep > 30
    canvas.fill(inside, e=0.44, h=0.2)
    canvas.fill(lumen & region, e=0.04, h=0.05)
    goblets = scattered(rng, (inside & (deep > 11) & (deep < 27)) * 0.9, canvas.samples(11.5))
    vacuole = blobs(
        rng,
        canvas.shape,
        goblets,
        canvas.samples(1) * rng.uniform(3.8, 5.6, len(goblets)),
        roughness=0.05,
    )
    drops = (vacuole > 0) & inside
    canvas.fill(drops, e=0.03, h=0.16)
    canvas.cells(nuc.CRYPT, (inside & (deep > 2.5) & (deep < 8)) * 1.0, 6.2, along=deep)


def glands(
    canvas: Canvas,
    region: np.ndarray,
    kind: nuc.Nucleus,
    *,
    spacing_um: float,
    radius_um: tuple[float, float],
    wall_um: float,
    roughness: float,
    layers: float = 1.0,
    cribriform: float = 0.0,
    necrosis: float = 0.0,
    crowding_um: float = 7.5,
) -> np.ndarray:
    """Malignant glands: irregular lumina in an epithelium with basal nuclei. Returns their mask.

    `layers` above 1 stacks nuclei towards the lumen; `cribriform` is the share of glands with
    many small lumina; `necrosis` the share of lumina full of dirty debris.
    """
    rng = canvas.rng
    centres = scattered(rng, region * 0.95, canvas.samples(spacing_um))
    count = len(centres)
    radii = canvas.samples(1) * rng.uniform(*radius_um, count)
    field = blobs(
        rng,
        canvas.shape,
        centres,
        radii,
        roughness=roughness,
        stretch=1 + rng.gamma(1.2, 0.45, count),
    )
    field += canvas.samples(5) * canvas.noise(26)
    inside = (field > 0) & region
    deep = inside_distance(inside) * canvas.um
    wall = wall_um * np.clip(1 + 0.28 * canvas.noise(60), 0.5, 1.8)
    lumen = deep > wall
    if cribriform:
        bridged = (canvas.noise(300) > 1.2 - 2 * cribriform) & (canvas.noise(55) < 0.35)
        lumen = ndimage.binary_opening(lumen & ~bridged, iterations=2)
    epithelium = inside & ~lumen
    canvas.fill(epithelium, e=0.36, h=0.24)
    canvas.e[epithelium] *= np.clip(1 + 0.15 * canvas.noise(30), 0.6, 1.5)[epithelium]
    canvas.fill(lumen, e=0.02)
    mucus = lumen & (canvas.noise(90) > 0.7)
    canvas.fill(mucus, h=0.1, e=0.08)
    if necrosis:
        dirty = lumen & (canvas.noise(170) > 1.3 - 2.4 * necrosis) & (deep > wall + 8)
        _debris(canvas, dirty)
    to_lumen = ndimage.distance_transform_edt(~lumen).astype(np.float32) * canvas.um
    basal = 2.5 + kind.length_um * 0.36
    band = epithelium & (deep < basal + kind.length_um * 0.5 * layers) & (to_lumen > 4.0)
    canvas.cells(kind, band * 0.97, crowding_um, along=deep)
    return inside


def nests(
    canvas: Canvas,
    region: np.ndarray,
    kind: nuc.Nucleus,
    *,
    size_um: float,
    share: float,
    spacing_um: float,
    pearls: float = 0.0,
    cytoplasm: tuple[float, float] = (0.42, 0.16),
    body: nuc.Nucleus | None = None,
) -> np.ndarray:
    """Solid islands of tumour cells, with keratin pearls at their centres. Returns their mask."""
    rng = canvas.rng
    field = canvas.noise(size_um) + 0.25 * canvas.noise(size_um / 4)
    inside = region & (field > (np.quantile(field[region], 1 - share) if region.any() else 0))
    inside = ndimage.binary_opening(inside, iterations=2)
    deep = inside_distance(inside) * canvas.um
    canvas.fill(inside, e=cytoplasm[0], h=cytoplasm[1])
    canvas.e[inside] *= np.clip(0.8 + deep / 160 + 0.12 * canvas.noise(22), 0.5, 1.7)[inside]
    pearl = np.full(canvas.shape, -1e3, np.float32)
    if pearls:
        centres = scattered(rng, (deep > size_um * 0.22) * pearls, canvas.samples(150))
        at = tuple(centres.astype(int).T)
        radii = np.minimum(rng.uniform(28, 70, len(centres)), deep[at] * 0.95) / canvas.um
        pearl = blobs(rng, canvas.shape, centres, radii, roughness=0.1)
        _keratin(canvas, pearl)
    spared = inside & (pearl <= 0)
    edge = (deep < 14) & spared
    canvas.cells(kind, edge * 0.97, spacing_um * 0.82, along=deep)
    canvas.cells(kind, (spared & ~edge) * 0.92, spacing_um)
    if body:
        canvas.cells(body, spared * 0.95, spacing_um)
    return inside


def _keratin(canvas: Canvas, pearl: np.ndarray) -> None:
    """Concentric, glassy, deeply eosinophilic layers with a few shrunken nuclei."""
    inside = pearl > 0
    depth = pearl * canvas.um + 2.5 * canvas.noise(30)
    rings = 0.5 + 0.5 * np.sin(depth * 2 * np.pi / 9.5)
    canvas.fill(inside, e=0.8, h=0.02)
    canvas.e[inside] = (0.72 + 0.55 * rings)[inside]
    canvas.cells(nuc.FIBROBLAST, (inside & (depth < 22)) * 0.35, 12, along=canvas.noise(50))
    canvas.cells(nuc.DEBRIS, inside * 0.08, 9)


def necrosis(canvas: Canvas, region: np.ndarray) -> None:
    """Ghost tissue: smudged eosin with nuclear dust."""
    canvas.fill(region, e=0.55, h=0.12, fibre=0.06)
    canvas.e[region] *= np.clip(1 + 0.3 * canvas.noise(25), 0.4, 1.8)[region]
    _debris(canvas, region, base=False)


def _debris(canvas: Canvas, region: np.ndarray, *, base: bool = True) -> None:
    if base:
        canvas.fill(region, e=0.6, h=0.12)
        canvas.e[region] *= np.clip(1 + 0.35 * canvas.noise(18), 0.3, 1.9)[region]
    canvas.cells(nuc.DEBRIS, region * 0.5, 5.5)
    canvas.cells(nuc.LYMPHOCYTE, region * 0.10, 11)


def mucin(canvas: Canvas, region: np.ndarray, kind: nuc.Nucleus, *, clusters: float = 0.5) -> None:
    """Lakes of pale mucin with floating strips and clusters of tumour cells."""
    rng = canvas.rng
    border, _, _ = cells(rng, canvas.shape, canvas.samples(340), wobble=0.34)
    septa = (border * canvas.um < 22 * (1 + 0.5 * canvas.noise(150))) & region
    lake = region & ~septa
    streaks = np.sin(canvas.phase * canvas.um / 14 + 2 * canvas.noise(90))
    canvas.fill(lake, h=0.15, e=0.06)
    canvas.h[lake] = np.clip(0.17 + 0.05 * streaks + 0.05 * canvas.noise(45), 0.03, 0.5)[lake]
    stroma(canvas, septa, density=0.75, spindle_um=20)
    centres = scattered(rng, lake * clusters, canvas.samples(170))
    count = len(centres)
    field = blobs(
        rng,
        canvas.shape,
        centres,
        canvas.samples(1) * rng.uniform(13, 32, count),
        roughness=0.2,
        stretch=1 + rng.gamma(1.3, 0.5, count),
    )
    field += canvas.samples(14) * canvas.noise(55)
    island = (field > 0) & lake
    deep = inside_distance(island) * canvas.um
    hollow = deep > 19
    canvas.fill(island, e=0.38, h=0.24)
    canvas.fill(hollow, h=0.16, e=0.05)
    canvas.cells(kind, (island & ~hollow & (deep > 2)) * 0.9, 8.2, along=deep)
    # Tumour cells also line parts of the septa.
    lining = (
        (border * canvas.um > 20) & (border * canvas.um < 36) & region & (canvas.noise(220) > 0.3)
    )
    canvas.fill(lining, e=0.36, h=0.24)
    canvas.cells(kind, lining * 0.9, 8.2, along=border)


def lymphoid_sheet(canvas: Canvas, region: np.ndarray, *, follicles: float = 0.55) -> None:
    """Sheets of small lymphocytes with crowded, paler follicles that have lost their mantle."""
    rng = canvas.rng
    canvas.fill(region, e=0.2, h=0.22, fibre=0.05)
    centres = scattered(rng, region * 0.95, canvas.samples(350))
    radii = canvas.samples(1) * rng.uniform(110, 165, len(centres)) * (0.55 + follicles)
    field = blobs(rng, canvas.shape, centres, radii, roughness=0.07)
    follicle = (field > 0) & region
    canvas.fill(follicle, e=0.26, h=0.06)
    between = region & ~follicle
    canvas.cells(nuc.LYMPHOCYTE, between * 0.97, 6.4)
    canvas.cells(nuc.CENTROCYTE, follicle * 0.85, 9.2)
    canvas.cells(nuc.CENTROBLAST, follicle * 0.35, 13)
    vessels(canvas, between, spacing_um=240)


def pigment(canvas: Canvas, region: np.ndarray) -> None:
    """Black carbon dust in heaps, as in every city lung."""
    heaps = np.clip(canvas.noise(90) - 1.55, 0, 1) * region
    canvas.cells(nuc.PIGMENT, heaps, 2.6)
