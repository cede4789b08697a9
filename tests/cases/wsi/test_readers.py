"""Readers: every format gives the same region for the same level-0 pixels."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from cases.wsi.errors import WsiError
from cases.wsi.reader import open_slide
from cases.wsi.regions import RegionReader, level_downsample
from tests.synthetic_slide import picture, pyramid, write_dicom_slide, write_tiff_slide


class CheckerReader(RegionReader):
    """A pyramid in memory that remembers which level was read."""

    def __init__(self, levels: list[np.ndarray]) -> None:
        self.levels = levels
        self.reads: list[tuple[int, int, int]] = []
        self._set_levels([(level.shape[1], level.shape[0]) for level in levels])

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        rows, columns = self.levels[level].shape[:2]
        assert x >= 0 and y >= 0 and x + width <= columns and y + height <= rows
        self.reads.append((level, width, height))
        return self.levels[level][y : y + height, x : x + width]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1110, 1483), 2), ((555, 742), 4), ((34, 46), 64), ((740, 989), 3), ((1000, 1336), 2.22)],
)
def test_whole_factors_are_recognised_in_rounded_levels(size, expected):
    assert level_downsample((2220, 2967), size) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("out", "level"), [(1024, 0), (700, 0), (512, 1), (300, 1), (256, 2), (100, 2)]
)
def test_level_is_the_nearest_that_is_fine_enough(out, level):
    reader = CheckerReader(pyramid(picture(1024, 1024), 3))
    reader.read_region_l0(0, 0, 1024, 1024, out, out)
    assert {read[0] for read in reader.reads} == {level}


def test_outside_of_the_slide_is_white_and_the_inside_stays_in_place():
    rgb = picture(300, 200)
    region = CheckerReader([rgb]).read_region_l0(-40, -30, 400, 300, 400, 300)
    assert np.array_equal(region[30:230, 40:340], rgb)
    region[30:230, 40:340] = 255
    assert (region == 255).all()


def test_a_region_wholly_outside_is_white():
    region = CheckerReader([picture(300, 200)]).read_region_l0(5000, 5000, 100, 100, 50, 50)
    assert region.shape == (50, 50, 3)
    assert (region == 255).all()


def test_a_dark_slide_has_no_light_border():
    reader = CheckerReader([np.zeros((203, 301, 3), np.uint8)])
    assert reader.read_region_l0(0, 0, 304, 204, 76, 51).max() == 0


def test_pieces_join_without_a_seam(monkeypatch):
    reader = CheckerReader([picture(900, 700)])
    whole = reader.read_region_l0(3, 5, 801, 603, 267, 201)
    monkeypatch.setattr("cases.wsi.regions.MAX_SOURCE_PIXELS", 20_000)
    reader.reads.clear()
    pieces = reader.read_region_l0(3, 5, 801, 603, 267, 201)
    assert len(reader.reads) > 10
    assert max(width * height for _, width, height in reader.reads) < 60_000
    assert np.abs(whole.astype(int) - pieces).max() <= 1


@pytest.mark.parametrize("bad", [(0, 0, 0, 10, 5, 5), (0, 0, 10, 10, 0, 5), (0, 0, 10, -1, 5, 5)])
def test_empty_regions_are_refused(bad):
    with pytest.raises(ValueError, match="at least one pixel"):
        CheckerReader([picture(64, 64)]).read_region_l0(*bad)


def test_uncompressed_tiff_and_dicom_give_the_very_pixels(tmp_path):
    rgb = picture(704, 536, seed=4)
    tiff = write_tiff_slide(tmp_path / "slide.tiff", rgb=rgb)
    dicom = write_dicom_slide(tmp_path / "slide", rgb=rgb, jpeg=False)
    for path in (tiff, dicom):
        reader = open_slide(path)
        assert (reader.width_l0, reader.height_l0, reader.level_count) == (704, 536, 3)
        assert reader.level_downsamples == (1.0, 2.0, 4.0)
        assert reader.mpp == pytest.approx(0.5)
        assert np.array_equal(reader.read_region_l0(0, 0, 704, 536, 704, 536), rgb)
        assert np.array_equal(
            reader.read_region_l0(100, 60, 400, 400, 200, 200), pyramid(rgb, 2)[1][30:230, 50:250]
        )
        reader.close()


def test_floored_levels_are_read_at_their_own_pixels(tmp_path):
    """OpenSlide takes 1023 over 511 for 2.002 and interpolates; the place must still be right."""
    rgb = picture(1023, 767, seed=2)
    half = np.array(Image.fromarray(rgb[:766, :1022]).reduce(2))
    file = tmp_path / "floored.tiff"
    with tifffile.TiffWriter(file) as tiff:
        for number, level in enumerate((rgb, half)):
            tiff.write(level, tile=(256, 256), photometric="rgb", subfiletype=int(number > 0))
    region = open_slide(file).read_region_l0(400, 300, 600, 400, 300, 200).astype(int)
    here = np.abs(region - half[150:350, 200:500]).mean()
    assert here < 2
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert np.abs(region - half[150 + y : 350 + y, 200 + x : 500 + x]).mean() > 2 * here


def test_mpp_given_at_opening_overrides(tmp_path):
    reader = open_slide(write_tiff_slide(tmp_path / "slide.tiff", mpp=None), mpp=0.42)
    assert (reader.mpp, reader.mpp_source) == (0.42, "entered")


@pytest.mark.parametrize(
    ("mpp", "description", "expected"),
    [
        (0.25, None, (0.25, "file")),
        (None, None, (None, "")),
        (None, "Aperio Image Library v1\r\n|AppMag = 40", (0.25, "objective_power")),
        (None, "Aperio Image Library v1\r\n|AppMag = 40|MPP = 0.3", (0.3, "file")),
        (84.67, None, (None, "")),  # 300 dots per inch speak of paper
    ],
)
def test_resolution_of_vendor_files(tmp_path, mpp, description, expected):
    file = write_tiff_slide(tmp_path / "slide.svs", mpp=mpp, description=description)
    reader = open_slide(file)
    assert reader.mpp == (pytest.approx(expected[0]) if expected[0] else None)
    assert reader.mpp_source == expected[1]


@pytest.mark.parametrize(
    ("mpp", "power", "expected"),
    [(0.5, 20, (0.5, "file")), (None, 40, (0.25, "objective_power")), (None, None, (None, ""))],
)
def test_resolution_of_dicom(tmp_path, mpp, power, expected):
    reader = open_slide(write_dicom_slide(tmp_path / "s", mpp=mpp, objective_power=power))
    assert reader.mpp == (pytest.approx(expected[0]) if expected[0] else None)
    assert reader.mpp_source == expected[1]


def test_label_is_apart_from_the_pixels(tmp_path):
    plain = open_slide(write_dicom_slide(tmp_path / "plain", seed=3))
    labelled = open_slide(write_dicom_slide(tmp_path / "labelled", seed=3, label=True))
    assert plain.label_image() is None and not plain.has_label_image
    assert labelled.label_image().shape == (160, 200, 3) and labelled.has_label_image
    assert np.array_equal(plain.thumbnail(200), labelled.thumbnail(200))


def test_wrongly_declared_colour_is_decoded_by_what_the_frames_say(tmp_path):
    def declare_rgb(number: int, dataset: Dataset) -> None:
        dataset.PhotometricInterpretation = "RGB"

    honest = open_slide(write_dicom_slide(tmp_path / "honest", seed=5))
    wrong = open_slide(write_dicom_slide(tmp_path / "wrong", seed=5, change=declare_rgb))
    assert np.array_equal(honest.thumbnail(300), wrong.thumbnail(300))


def test_rgb_frames_without_any_marker_are_taken_as_declared(tmp_path):
    def store_rgb(number: int, dataset: Dataset) -> None:
        frames = []
        for frame in generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames):
            tile = np.array(Image.open(io.BytesIO(frame)))
            buffer = io.BytesIO()
            Image.fromarray(tile).save(buffer, "JPEG", quality=95, keep_rgb=True)
            frames.append(buffer.getvalue())
        dataset.PixelData = encapsulate(frames)
        dataset.PhotometricInterpretation = "RGB"

    honest = open_slide(write_dicom_slide(tmp_path / "honest", seed=5)).thumbnail(300)
    stored = open_slide(write_dicom_slide(tmp_path / "rgb", seed=5, change=store_rgb))
    assert np.abs(honest.astype(int) - stored.thumbnail(300)).mean() < 2


def test_uneven_pyramids_are_read(tmp_path):
    """A level four times smaller, with another tile size, and no spacing on it."""

    def odd_out(number: int, dataset: Dataset) -> None:
        if number == 1:
            dataset.ImageType[2] = "THUMBNAIL"

    reader = open_slide(write_dicom_slide(tmp_path / "s", change=odd_out))
    assert reader.level_downsamples == (1.0, 4.0)


def test_many_threads_read_the_same_as_one(tmp_path):
    paths = (write_tiff_slide(tmp_path / "s.tiff"), write_dicom_slide(tmp_path / "s"))
    regions = [(x, y, 300, 200, 150, 100) for x in range(0, 900, 90) for y in range(0, 700, 70)]
    for path in paths:
        alone, shared = open_slide(path), open_slide(path)
        expected = [alone.read_region_l0(*region) for region in regions]
        with ThreadPoolExecutor(8) as pool:
            read = list(
                pool.map(lambda region, slide=shared: slide.read_region_l0(*region), regions)
            )
        assert all(np.array_equal(a, b) for a, b in zip(expected, read, strict=True))


REAL = [
    # path, size, levels, mpp, source, power, has label
    ("svs/cmu-1-small-region.svs", (2220, 2967), 1, 0.499, "file", 20, True),
    ("svs/tcga-cr-7395-01a-01-ts1.svs", (4443, 3567), 2, None, "", None, False),
    ("dicom/cmu-1-small-region", (2220, 2967), 12, 0.499, "file", None, False),
    ("dicom/cmu-1-small-region-with-label", (2220, 2967), 5, 0.499, "file", None, True),
    ("dicom/camelyon-jpeg", (1152, 700), 1, 28.9685, "file", None, False),
    ("dicom/tiled-full-with-bot", (154, 290), 1, 124.2065, "file", None, False),
]


@pytest.mark.parametrize(("name", "size", "levels", "mpp", "source", "power", "label"), REAL)
def test_real_slides_open(shared_data, name, size, levels, mpp, source, power, label):
    reader = open_slide(shared_data / "slides" / name)
    assert (reader.width_l0, reader.height_l0) == size
    assert reader.level_count == levels
    assert reader.mpp == (pytest.approx(mpp, abs=1e-3) if mpp else None)
    assert (reader.mpp_source, reader.objective_power) == (source, power)
    assert reader.has_label_image == label
    assert (reader.label_image() is not None) == label
    thumbnail = reader.thumbnail(256)
    assert max(thumbnail.shape) == 256
    reader.close()


@pytest.mark.parametrize(
    "region",
    [
        (0, 0, 512, 512, 512, 512),
        (600, 900, 512, 512, 512, 512),
        (600, 800, 1024, 1024, 512, 512),
        (700, 1300, 1200, 1200, 300, 300),
        (900, 1900, 1001, 1003, 400, 401),
        (1500, 2400, 900, 800, 225, 200),
        (-200, -100, 1600, 1600, 200, 200),
        (0, 0, 2220, 2967, 277, 370),
    ],
)
def test_svs_and_dicom_of_one_slide_show_the_same_place(shared_data, region):
    """The DICOM was made from the SVS: no shift of half a pixel at any zoom may show."""
    folder = shared_data / "slides"
    svs = open_slide(folder / "svs/cmu-1-small-region.svs").read_region_l0(*region)
    dicom = open_slide(folder / "dicom/cmu-1-small-region-with-label").read_region_l0(*region)
    a, b = svs.mean(axis=2), dicom.mean(axis=2)
    here = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    assert here > 0.97
    for axis in (0, 1):
        for step in (-1, 1):
            moved = np.roll(b, step, axis)[2:-2, 2:-2]
            assert np.corrcoef(a[2:-2, 2:-2].ravel(), moved.ravel())[0, 1] < here
    if region[2] == region[4]:
        assert np.array_equal(svs, dicom)


def test_both_conversions_of_one_slide_have_its_colours(shared_data):
    folder = shared_data / "slides"
    svs = open_slide(folder / "svs/cmu-1-small-region.svs").thumbnail(300).astype(int)
    for name in ("cmu-1-small-region", "cmu-1-small-region-with-label"):
        dicom = open_slide(folder / "dicom" / name).thumbnail(300)
        assert np.abs(svs - dicom).mean() < 12


def test_corrupt_svs_is_refused(shared_data):
    with pytest.raises(WsiError) as refused:
        open_slide(shared_data / "slides/edge/broken.svs")
    assert refused.value.code == "corrupt"


def test_a_missing_file_has_a_name_too(tmp_path):
    with pytest.raises(WsiError) as refused:
        open_slide(tmp_path / "gone.svs")
    assert refused.value.code == "unreadable"
