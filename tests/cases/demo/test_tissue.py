"""The painter: the same for one seed, different between diagnoses, free of Django."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from cases.demo import nuclei as nuc
from cases.demo.canvas import Canvas
from cases.demo.stain import SCANNERS
from cases.demo.tissue import DIAGNOSES, paint_tissue

SIZE = (900, 700)
SCANNER = SCANNERS["Aurora 40"]


@pytest.fixture(scope="module")
def painted() -> dict[str, np.ndarray]:
    """Return one section of every diagnosis, tissue to the edges, from one scanner."""
    return {
        name: paint_tissue(name, 5, SIZE, scanner=SCANNER, full_bleed=True) for name in DIAGNOSES
    }


def share_of_nuclei(rgb: np.ndarray) -> float:
    """Return the share of dark blue pixels."""
    return float(((rgb[..., 0] < 130) & (rgb[..., 2] > rgb[..., 1])).mean())


def share_of_glass(rgb: np.ndarray) -> float:
    """Return the share of nearly white pixels."""
    return float((rgb.min(axis=2) > 225).mean())


@pytest.mark.parametrize("name", DIAGNOSES)
def test_pixels_have_the_size_asked_for_and_look_stained(painted, name):
    rgb = painted[name]
    assert rgb.shape == (SIZE[1], SIZE[0], 3)
    assert rgb.dtype == np.uint8
    tissue = rgb[rgb.min(axis=2) < 215].astype(float)
    red, green, blue = tissue.mean(axis=0)
    assert green < red
    assert green < blue
    assert 0.005 < share_of_nuclei(rgb) < 0.8


def test_one_seed_is_one_picture_and_another_seed_another():
    first = paint_tissue("colon_mucinous", 3, SIZE)
    assert np.array_equal(first, paint_tissue("colon_mucinous", 3, SIZE))
    assert not np.array_equal(first, paint_tissue("colon_mucinous", 4, SIZE))


def test_what_distinguishes_the_diagnoses_is_there(painted):
    glass = {name: share_of_glass(rgb) for name, rgb in painted.items()}
    nuclei = {name: share_of_nuclei(rgb) for name, rgb in painted.items()}
    assert glass["lung_normal"] > 0.5
    assert glass["lymphoma"] < 0.25
    # Sheets of lymphocytes hold more nuclei than anything else, alveoli the fewest.
    assert max(nuclei, key=nuclei.get) == "lymphoma"
    assert min(nuclei, key=nuclei.get) == "lung_normal"


def test_tissue_lies_on_white_glass_in_one_or_two_pieces():
    for pieces in (1, 2):
        rgb = paint_tissue("lymphoma", 8, (1600, 1000), fragments=pieces)
        edge = np.concatenate([rgb[:6].reshape(-1, 3), rgb[-6:].reshape(-1, 3)])
        assert np.median(edge) > 230
        solid = ndimage.binary_closing(rgb[::8, ::8].min(axis=2) < 200, iterations=2)
        _labels, count = ndimage.label(ndimage.binary_opening(solid, iterations=3))
        assert count >= pieces


def test_two_scanners_see_the_same_tissue_in_other_colours():
    one, other = (
        paint_tissue("breast_ductal", 2, SIZE, scanner=SCANNERS[name], full_bleed=True)
        for name in ("Aurora 20", "Meridian S")
    )
    assert np.abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))).max() > 2


def test_a_later_fill_hides_the_cells_under_it():
    canvas = Canvas(np.random.default_rng(1), 400, 400, 0.5)
    everywhere = np.ones(canvas.shape, bool)
    hole = np.zeros(canvas.shape, bool)
    hole[20:80, 20:80] = True
    canvas.fill(everywhere, e=0.3)
    canvas.cells(nuc.LYMPHOCYTE, everywhere, 8)
    canvas.fill(hole)
    haematoxylin, _eosin = canvas.layers()
    assert haematoxylin[120:280, 120:280].max() == 0
    assert haematoxylin.max() > 100


def test_an_unknown_diagnosis_is_an_error():
    with pytest.raises(KeyError):
        paint_tissue("appendix", 1, SIZE)


def test_painting_and_writing_need_no_django():
    code = "import sys, cases.demo.slides; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
