"""Deep Zoom geometry against the tiles it must cut."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from cases.wsi.deepzoom import DeepZoom
from cases.wsi.reader import open_slide
from tests.synthetic_slide import picture, write_dicom_slide


@pytest.mark.parametrize(
    ("size", "count"),
    [((1, 1), 1), ((2, 1), 2), ((256, 256), 9), ((257, 1), 10), ((2220, 2967), 13)],
)
def test_count_of_levels(size, count):
    assert DeepZoom(*size).z_level_count == count


def test_last_level_is_full_resolution_and_first_is_one_pixel():
    zoom = DeepZoom(2220, 2967)
    assert zoom.size(12) == (2220, 2967)
    assert zoom.size(0) == (1, 1)
    assert (zoom.columns(12), zoom.rows(12)) == (9, 12)


@pytest.mark.parametrize("place", [(-1, 0, 0), (13, 0, 0), (12, 9, 0), (12, 0, 12), (12, -1, 0)])
def test_tiles_that_are_not_there(place):
    with pytest.raises(ValueError, match="There is no"):
        DeepZoom(2220, 2967).region(*place)


def test_overlap_is_inside_only():
    zoom = DeepZoom(1000, 600)
    last = zoom.z_level_count - 1
    assert zoom.region(last, 0, 0) == (0, 0, 255, 255, 255, 255)
    assert zoom.region(last, 1, 1) == (253, 253, 256, 256, 256, 256)
    assert zoom.region(last, 3, 2) == (761, 507, 239, 93, 239, 93)


@pytest.mark.parametrize("z_from_last", [0, 1, 2, 3])
def test_tiles_join_to_the_picture(tmp_path, z_from_last):
    rgb = picture(901, 643)
    reader = open_slide(write_dicom_slide(tmp_path / "slide", rgb=rgb, levels=2, jpeg=False))
    zoom = DeepZoom(901, 643, overlap=0)
    z_level = zoom.z_level_count - 1 - z_from_last
    width, height = zoom.size(z_level)
    joined = np.zeros((height, width, 3), np.uint8)
    for column in range(zoom.columns(z_level)):
        for row in range(zoom.rows(z_level)):
            tile = reader.read_region_l0(*zoom.region(z_level, column, row))
            top, left = row * 254, column * 254
            joined[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    scale = 2**z_from_last
    whole = reader.read_region_l0(0, 0, width * scale, height * scale, width, height)
    assert np.abs(joined.astype(int) - whole).max() <= 1


def test_descriptor():
    root = ET.fromstring(DeepZoom(2220, 2967).dzi_xml())
    assert root.attrib == {"Format": "jpeg", "Overlap": "1", "TileSize": "254"}
    assert root[0].attrib == {"Width": "2220", "Height": "2967"}
