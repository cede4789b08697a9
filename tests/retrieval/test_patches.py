"""Which patches are taken, from slides, regions and pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.engine.errors import SkipSlide
from retrieval.engine.patches import (
    patch_grid,
    query_patches,
    region_patches,
    slide_mask,
    tissue_share,
)
from tests.retrieval.fakes import FAKE_SPEC, PINK, ArraySlide, painted

# FAKE_SPEC: patches of 32 px at 2 um are 64 um, 64 px of a slide at 1 um.


def grid(mask, width, height, mpp=1.0, **more):
    return patch_grid(
        mask, width_l0=width, height_l0=height, mpp=mpp, patch_px=32, target_mpp=2.0, **more
    )


def test_patches_have_the_encoders_size_in_micrometres():
    _coords, size = grid(np.ones((10, 10), bool), 640, 640, mpp=0.25)
    assert size == 256


def test_only_whole_patches_with_enough_tissue_are_taken_in_reading_order():
    mask = np.zeros((20, 30), bool)
    mask[:, 10:20] = True
    coords, size = grid(mask, 640 + 320, 650)
    assert size == 64
    assert coords[:, 0].min() >= 300 - 64
    assert coords[:, 0].max() <= 650
    assert (coords + size <= (960, 650)).all()
    assert (np.lexsort((coords[:, 0], coords[:, 1])) == np.arange(len(coords))).all()


@pytest.mark.parametrize(
    ("mask", "width", "mpp", "code"),
    [
        (np.ones((4, 4), bool), 63, 1.0, "too_small"),
        (np.zeros((4, 4), bool), 640, 1.0, "no_tissue"),
        (np.ones((4, 4), bool), 640, 5.1, "too_coarse"),
        (np.ones((4, 4), bool), 640, 0.0, "no_mpp"),
        (np.indices((640, 640)).max(0) < 12, 640, 1.0, "too_small"),
    ],
)
def test_it_says_why_a_slide_has_no_patches(mask, width, mpp, code):
    with pytest.raises(SkipSlide) as skipped:
        grid(mask, width, width, mpp=mpp)
    assert skipped.value.code == code
    assert skipped.value.message.endswith((".", "needs 2."))


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(0, 2**31), st.integers(1, 7))
def test_the_share_of_tissue_is_what_counting_gives(height, width, seed, size):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    coords = np.array(
        [(x, y) for y in range(0, height - size, 2) for x in range(0, width - size, 3)]
    )
    if not len(coords):
        return
    shares = tissue_share(mask, coords, size, width_l0=width, height_l0=height)
    counted = [mask[y : y + size, x : x + size].mean() for x, y in coords]
    assert np.allclose(shares, counted)


def test_a_fluorescence_picture_is_named():
    dark = ArraySlide(painted(640, 640, (0, 0, 200, 200, (0, 220, 90)), background=(4, 4, 6)))
    with pytest.raises(SkipSlide) as skipped:
        slide_mask(dark, 1.0)
    assert skipped.value.code == "fluorescence"


def test_a_region_gives_its_own_patches_only():
    slide = ArraySlide(painted(1000, 1000, (100, 100, 800, 800, PINK)))
    patches = region_patches(slide, (200, 300, 200, 140), FAKE_SPEC)
    assert patches.pixels.shape == (6, 32, 32, 3)
    assert (patches.coords_l0 >= (200, 300)).all()
    assert (patches.coords_l0 + patches.size_l0 <= (400, 440)).all()


def test_a_region_smaller_than_a_patch_gives_the_patch_around_it():
    slide = ArraySlide(painted(1000, 1000, (100, 100, 800, 800, PINK)))
    patches = region_patches(slide, (500, 500, 10, 20), FAKE_SPEC)
    assert patches.coords_l0.tolist() == [[505 - 32, 510 - 32]]


def test_a_large_region_is_sampled_and_glass_left_out():
    slide = ArraySlide(painted(2000, 2000, (0, 0, 1000, 2000, PINK)))
    patches = region_patches(slide, (0, 0, 2000, 2000), FAKE_SPEC, max_patches=50)
    assert 20 <= len(patches.pixels) <= 50
    assert (patches.coords_l0[:, 0] < 1000).all()
    with pytest.raises(SkipSlide, match="tissue"):
        region_patches(slide, (1200, 0, 600, 600), FAKE_SPEC)


def test_a_picture_is_brought_to_the_encoders_resolution():
    picture = painted(512, 256, (0, 0, 512, 256, PINK))
    patches = query_patches(picture, 0.5, FAKE_SPEC)
    assert patches.size_l0 == 128
    assert patches.pixels.shape == (8, 32, 32, 3)


def test_a_picture_a_little_smaller_than_a_patch_is_mirrored_to_its_size():
    patches = query_patches(painted(100, 100, (0, 0, 100, 100, PINK)), 0.5, FAKE_SPEC)
    assert len(patches.pixels) == 1
    assert abs(patches.pixels.mean(axis=(0, 1, 2)) - PINK).max() < 2


@pytest.mark.parametrize(("mpp", "code"), [(0.2, "too_small"), (9.0, "too_coarse"), (0, "no_mpp")])
def test_a_picture_that_cannot_be_used_is_refused_by_name(mpp, code):
    with pytest.raises(SkipSlide) as skipped:
        query_patches(painted(100, 100, (0, 0, 100, 100, PINK)), mpp, FAKE_SPEC)
    assert skipped.value.code == code
