"""ICC profiles: read from DICOM and vendor files, and what they do to pixels."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from cases.wsi.colour import correction
from cases.wsi.reader import open_slide
from tests.icc import srgb, swapped
from tests.synthetic_slide import picture, write_dicom_slide, write_tiff_slide


def test_it_turns_the_scanners_numbers_into_srgb():
    found = correction(swapped())
    colours = np.array([[[255, 0, 0], [0, 0, 255], [0, 255, 0], [255, 255, 255]]], np.uint8)
    expected = np.array([[[0, 255, 0], [0, 0, 255], [255, 0, 0], [255, 255, 255]]])
    assert np.abs(found.apply(colours).astype(int) - expected).max() <= 2


def test_it_changes_what_it_says_and_not_the_given_pixels():
    rgb = picture(64, 64)
    before = rgb.copy()
    corrected = correction(swapped()).apply(rgb)
    assert corrected.shape == rgb.shape
    assert corrected.dtype == np.uint8
    assert np.array_equal(rgb, before)
    assert np.abs(corrected.astype(int) - rgb[..., [1, 0, 2]]).max() <= 3


@pytest.mark.parametrize("profile", [None, b"", b"no profile", srgb()[:200], bytes(5000)])
def test_without_a_profile_that_can_be_read_colours_stay(profile):
    assert correction(profile) is None


def test_a_profile_of_srgb_needs_no_correction():
    assert correction(srgb()) is None


def test_a_profile_of_another_space_is_no_correction_of_rgb():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert correction(lab) is None


def give_profile(profile: bytes):
    """Return a change of a DICOM instance (see write_dicom_slide)."""

    def change(number, dataset):
        if number >= 0:
            dataset.OpticalPathSequence[0].ICCProfile = profile

    return change


def test_a_dicom_slide_has_the_profile_of_its_optical_path(tmp_path):
    slide = open_slide(write_dicom_slide(tmp_path / "slide", change=give_profile(swapped())))
    try:
        assert slide.icc_profile() == swapped()
        assert slide.correction is slide.correction is not None  # made once
    finally:
        slide.close()


def test_a_vendors_slide_has_the_profile_of_its_file(tmp_path):
    path = tmp_path / "slide.tiff"
    rgb = np.asarray(Image.fromarray(picture(512, 512)))
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", iccprofile=swapped())
    slide = open_slide(path)
    try:
        red = slide.read_region_l0(0, 0, 256, 256, 256, 256)
        corrected = slide.correction.apply(red)
        assert np.abs(corrected.astype(int) - red[..., [1, 0, 2]]).max() <= 3
    finally:
        slide.close()


def test_a_slide_with_a_damaged_profile_or_none_is_shown_as_scanned(tmp_path):
    for number, change in enumerate((None, give_profile(b"\0" * 400))):
        slide = open_slide(write_dicom_slide(tmp_path / str(number), change=change))
        assert slide.correction is None
        slide.close()
    plain = open_slide(write_tiff_slide(tmp_path / "plain.tiff"))
    assert plain.correction is None
    plain.close()
    damaged = tmp_path / "damaged.tiff"
    tifffile.imwrite(
        damaged, picture(512, 512), tile=(256, 256), photometric="rgb", iccprofile=b"\0" * 400
    )
    slide = open_slide(damaged)
    assert slide.correction is None
    assert slide.read_region_l0(0, 0, 64, 64, 64, 64).shape == (64, 64, 3)
    slide.close()
