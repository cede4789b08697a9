"""Every form of DICOM slide that is taken: through the real intake, and read back pixel-true."""

import io
from pathlib import Path

import numpy as np
import pydicom.uid
import pytest
from PIL import Image
from pydicom import dcmread

from cases.models import SlideImage
from cases.services.store import image_path
from cases.wsi.reader import open_slide
from retrieval.models import SlideIndex
from retrieval.services.indexing import index_run
from tests.cases.intake.conftest import only_item
from tests.dicom_formats import (
    CODERS,
    frames_of,
    make_fluorescence,
    make_sparse,
    recode,
    split_concatenation,
    store_frames,
)
from tests.synthetic_slide import TILE, picture, pyramid, write_dicom_slide

pytestmark = pytest.mark.django_db
LEVELS = 2
HTJ2K_TILE = Path(__file__).resolve().parents[2] / "data" / "htj2k_lossless_64.j2k"


@pytest.fixture
def rgb():
    return picture(700, 600, seed=11)


def read_level(image: SlideImage, level: int = 0) -> np.ndarray:
    """Return a whole level as the viewer and the index read it."""
    reader = open_slide(image_path(image))
    try:
        width, height = reader.level_dimensions[level]
        return reader._read_level(level, 0, 0, width, height)
    finally:
        reader.close()


def taken(upload) -> SlideImage:
    item = only_item(upload)
    assert item.state == "accepted", (item.reason_code, item.reason)
    return item.slide_image


@pytest.mark.parametrize(
    ("syntax", "offsets"),
    [
        ("JPEGBaseline8Bit", "basic"),
        ("JPEGBaseline8Bit", "extended"),
        ("JPEGBaseline8Bit", "none"),
        ("JPEG2000Lossless", "basic"),
        ("JPEG2000", "none"),
        ("JPEGLSLossless", "extended"),
    ],
)
def test_compressed(deliver, tmp_path, rgb, syntax, offsets):
    coded = {}

    def change(number, dataset):
        frames = frames_of(dataset)
        coded[number] = [CODERS[syntax][0](frame) for frame in frames]
        recode(dataset, syntax, offsets=offsets)

    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=LEVELS, jpeg=False, change=change)
    image = taken(deliver(tmp_path / "s"))
    assert image.level_count == LEVELS
    read = read_level(image)
    if syntax in ("JPEG2000Lossless", "JPEGLSLossless"):
        assert np.array_equal(read, rgb)
    else:
        # The decoder's own pixels of the first tile, wherever it lies in the file.
        tile = np.array(Image.open(io.BytesIO(coded[0][0])).convert("RGB"))
        assert np.array_equal(read[:TILE, :TILE], tile)
        assert np.abs(read.astype(int) - rgb).mean() < 8


def test_frames_in_several_fragments_are_refused_by_name(deliver, tmp_path, rgb):
    def change(number, dataset):
        recode(dataset, "JPEG2000Lossless", fragments=3)

    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=1, jpeg=False, change=change)
    item = only_item(deliver(tmp_path / "s"))
    assert (item.state, item.reason_code) == ("refused", "unsupported_image")
    assert "fragments" in item.reason


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
def test_uncompressed(deliver, tmp_path, rgb, syntax):
    def change(number, dataset):
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        if syntax.startswith("Implicit"):
            dataset["PixelData"].VR = "OW"

    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=LEVELS, jpeg=False, change=change)
    image = taken(deliver(tmp_path / "s"))
    assert np.array_equal(read_level(image), rgb)
    assert np.array_equal(read_level(image, 1), pyramid(rgb, 2)[1])


@pytest.mark.parametrize("syntax", ["HTJ2K", "HTJ2KLossless", "HTJ2KLosslessRPCL"])
def test_high_throughput_jpeg_2000(deliver, tmp_path, syntax):
    """Four copies of a tile that another encoder made: nothing installed here writes them."""
    tile = HTJ2K_TILE.read_bytes()
    pixels = picture(256, 256, seed=41)[96:160, 96:160]

    def change(number, dataset):
        dataset.Rows = dataset.Columns = 64
        dataset.NumberOfFrames = 4
        store_frames(dataset, [tile] * 4)
        dataset.PhotometricInterpretation = "YBR_RCT"
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)

    write_dicom_slide(tmp_path / "s", rgb=picture(128, 128), levels=1, jpeg=False, change=change)
    image = taken(deliver(tmp_path / "s"))
    assert np.array_equal(read_level(image), np.tile(pixels, (2, 2, 1)))


@pytest.mark.parametrize("reverse", [False, True])
def test_sparse_tiles_lie_where_they_say_and_missing_ones_are_background(
    deliver, tmp_path, rgb, reverse
):
    def change(number, dataset):
        make_sparse(dataset, missing=(0, 4) if number == 0 else (), reverse=reverse)

    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=LEVELS, jpeg=False, change=change)
    image = taken(deliver(tmp_path / "s"))
    read, expected = read_level(image), rgb.copy()
    expected[:TILE, :TILE] = 255
    expected[TILE : 2 * TILE, TILE : 2 * TILE] = 255
    assert np.array_equal(read, expected)
    assert np.array_equal(read_level(image, 1), pyramid(rgb, 2)[1])


@pytest.mark.parametrize("is_sparse", [False, True])
def test_the_parts_of_a_concatenation_are_one_level(deliver, tmp_path, rgb, is_sparse):
    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=LEVELS, jpeg=False)
    file = tmp_path / "s" / "level-0.dcm"
    assert not is_sparse or _sparse_parts(file)
    if not is_sparse:
        split_concatenation(file, 3)
    image = taken(deliver(tmp_path / "s"))
    assert (image.level_count, image.instances.count()) == (LEVELS, LEVELS - 1 + 3)
    assert np.array_equal(read_level(image), rgb)


def _sparse_parts(file: Path) -> bool:
    dataset = dcmread(file)
    make_sparse(dataset, reverse=True)
    dataset.save_as(file)
    positions = list(dataset.PerFrameFunctionalGroupsSequence)
    for path in split_concatenation(file, 3):
        part = dcmread(path)
        begin = part.ConcatenationFrameOffsetNumber
        part.PerFrameFunctionalGroupsSequence = positions[begin : begin + part.NumberOfFrames]
        part.save_as(path)
    return True


def test_a_concatenation_without_one_of_its_parts_is_not_taken(deliver, tmp_path, rgb):
    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=1, jpeg=False)
    split_concatenation(tmp_path / "s" / "level-0.dcm", 3)[1].unlink()
    item = only_item(deliver(tmp_path / "s"))
    assert (item.state, item.reason_code) == ("refused", "missing_files")


def channels(height: int, width: int) -> list[np.ndarray]:
    """Return two channels of 12 bits: a dim square on the left, a bright one on the right."""
    left, right = np.zeros((2, height, width), "<u2")
    left[height // 4 : height // 2, width // 8 : width // 4] = 300
    right[height // 4 : height // 2, width // 2 : width * 3 // 4] = 4000
    return [left, right]


def test_fluorescence_is_shown_in_colours_and_known_as_such(deliver, tmp_path, rgb):
    def change(number, dataset):
        make_fluorescence(
            dataset, channels(dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns)
        )

    write_dicom_slide(tmp_path / "s", rgb=rgb, levels=LEVELS, jpeg=False, stain="", change=change)
    image = taken(deliver(tmp_path / "s"))
    assert image.is_fluorescence
    index = SlideIndex.objects.get(slide_image=image)
    assert index_run(index.pk) == "skipped"
    index.refresh_from_db()
    assert index.reason_code == "fluorescence"
    read = read_level(image)
    height, width = read.shape[:2]
    # DAPI (385 nm) is blue, FITC (490 nm) green; each bright enough to be seen, the rest dark.
    dapi = read[height // 4 + 5, width // 8 + 5].astype(int)
    fitc = read[height // 4 + 5, width // 2 + 5].astype(int)
    assert dapi[2] > 150 > 60 > dapi[0]
    assert fitc[1] > 150 and fitc[1] > fitc[2] + 60 and fitc[1] > fitc[0] + 60
    assert read[height - 5, 5].max() < 10
    # All levels in the same light, or the picture would flicker while one zooms.
    coarse = read_level(image, 1)
    assert np.abs(coarse[height // 8 + 3, width // 16 + 3].astype(int) - dapi).max() <= 2


def test_one_instance_an_optical_path(deliver, tmp_path, rgb):
    """The same channels, each in instances of its own."""
    for number in range(2):

        def change(level, dataset, number=number):
            pair = channels(dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns)
            make_fluorescence(dataset, pair)
            count = dataset.NumberOfFrames // 2
            size = len(dataset.PixelData) // 2
            dataset.PixelData = dataset.PixelData[number * size : (number + 1) * size]
            dataset.NumberOfFrames, dataset.NumberOfOpticalPaths = count, 1
            dataset.OpticalPathSequence = [dataset.OpticalPathSequence[number]]
            dataset.SOPInstanceUID = dataset.SOPInstanceUID[:-3] + f"{number + 1}00"

        write_dicom_slide(
            tmp_path / "s" / str(number), rgb=rgb, levels=1, jpeg=False, stain="", change=change
        )
    image = taken(deliver(tmp_path / "s"))
    read = read_level(image)
    height, width = read.shape[:2]
    assert read[height // 4 + 5, width // 8 + 5][2] > 150
    assert read[height // 4 + 5, width // 2 + 5][1] > 150
