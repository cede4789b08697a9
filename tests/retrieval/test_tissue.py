"""The tissue mask, on pictures of which we know where the tissue is."""

import numpy as np
import pytest

from retrieval.engine.tissue import is_dark_field, otsu, tissue_mask
from tests.retrieval.fakes import GLASS, PINK, VIOLET, painted

MPP = 8.0


def test_it_finds_tissue_and_leaves_glass_out():
    mask = tissue_mask(painted(200, 150, (40, 30, 100, 80, PINK)), MPP)
    truth = np.zeros((150, 200), bool)
    truth[30:110, 40:140] = True
    overlap = (mask & truth).sum() / (mask | truth).sum()
    assert overlap > 0.93


@pytest.mark.parametrize("glass", [GLASS, (225, 225, 235), (250, 248, 244), (200, 200, 203)])
def test_a_slide_of_bare_glass_has_no_tissue(glass):
    assert not tissue_mask(painted(200, 200, background=glass), MPP).any()


def test_a_slide_of_nothing_but_tissue_keeps_its_pale_half():
    pale_and_dark = painted(200, 200, (0, 0, 100, 200, VIOLET), background=(232, 196, 214))
    assert tissue_mask(pale_and_dark, MPP).mean() > 0.98


@pytest.mark.parametrize(
    "ink",
    [(40, 60, 200), (20, 140, 60), (0, 160, 200), (25, 25, 28)],
    ids=["blue", "green", "cyan", "black"],
)
def test_pen_marks_are_no_tissue_and_tissue_beside_them_is(ink):
    picture = painted(200, 200, (20, 20, 80, 160, PINK), (130, 20, 12, 160, ink))
    mask = tissue_mask(picture, MPP)
    assert not mask[:, 126:146].any()
    assert mask[40:160, 40:80].all()


@pytest.mark.parametrize("colour", [PINK, VIOLET, (90, 60, 140), (150, 100, 60), (160, 170, 205)])
def test_stains_are_not_taken_for_ink(colour):
    assert tissue_mask(painted(120, 120, (20, 20, 80, 80, colour)), MPP)[30:90, 30:90].all()


def test_small_holes_are_filled_large_ones_stay_and_specks_go():
    picture = painted(
        300,
        200,
        (20, 20, 160, 160, PINK),
        (40, 40, 8, 8, GLASS),
        (80, 80, 60, 60, GLASS),
        (240, 100, 3, 3, VIOLET),
    )
    mask = tissue_mask(picture, MPP)
    assert mask[40:48, 40:48].all()
    assert not mask[90:130, 90:130].any()
    assert not mask[:, 220:].any()


def test_otsu_splits_two_peaks_and_survives_none():
    two = np.concatenate([np.full(500, 0.1), np.full(300, 0.7)])
    assert 0.1 < otsu(two) <= 0.7
    assert otsu(np.full(10, 0.25)) == pytest.approx(0.25, abs=0.01)
    assert otsu(np.array([])) == 0.0


def test_a_dark_background_is_seen():
    assert is_dark_field(painted(50, 50, (10, 10, 20, 20, (0, 200, 80)), background=(5, 5, 8)))
    assert not is_dark_field(painted(50, 50, (10, 10, 20, 20, VIOLET)))
