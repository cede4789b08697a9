"""A vendor's file goes out as DICOM too, without what its scanner wrote into it."""

import shutil

import numpy as np
import pydicom
import pytest

from cases.services.store import image_path
from cases.wsi.reader import open_slide
from tests.cases.exports.conftest import unpacked
from tests.dciodvfy import complaints
from tests.synthetic_slide import write_tiff_slide

pytestmark = pytest.mark.django_db
COMMENT = (
    "Aperio Image Library v11.2.1 \r\n1024x768 -> |AppMag = 20|MPP = 0.5|User = Quixadelbaum"
    "|Filename = 7731995-XKCD|Date = 12/29/09"
)


def test_a_vendor_file_comes_out_as_dicom_with_its_pixels(take_in, make_export, tmp_path):
    file = write_tiff_slide(tmp_path / "in" / "slide.svs", description=COMMENT)
    image = take_in(
        file, accession_number="S26-77319", mrn="7731995", organ="Lung", stain="H&E", mpp="0.5"
    )
    export = make_export(image)
    assert (export.state, export.reason) == ("finished", "")
    assert [item.state for item in export.items.all()] == ["exported"]
    files = unpacked(export, tmp_path / "out")
    for one in files:
        data = one.read_bytes()
        assert b"Quixadelbaum" not in data
        assert b"7731995" not in data
    header = pydicom.dcmread(files[0])
    specimen = header.SpecimenDescriptionSequence[0]
    assert specimen.PrimaryAnatomicStructureSequence[0].CodeValue == "39607008"
    again = take_in(tmp_path / "out")
    assert (again.slide.specimen.organ, again.slide.stain) == ("Lung", "H&E")
    readers = [open_slide(image_path(one)) for one in (image, again)]
    try:
        before, after = (r.read_region_l0(0, 0, 1024, 768, 1024, 768) for r in readers)
    finally:
        for reader in readers:
            reader.close()
    difference = np.abs(before.astype(int) - after.astype(int))
    assert difference.mean() < 6  # its tiles were not JPEG


@pytest.mark.shared_data
def test_a_real_svs_goes_out_with_its_own_jpeg_tiles(take_in, make_export, tmp_path, shared_data):
    file = tmp_path / "in" / "slide.svs"
    file.parent.mkdir()
    shutil.copy(shared_data / "slides" / "svs" / "cmu-1-small-region.svs", file)
    image = take_in(file, accession_number="S26-CMU", mrn="M-CMU-1")
    export = make_export(image)
    assert (export.state, export.reason) == ("finished", "")
    files = unpacked(export, tmp_path / "out")
    for one in files:
        assert b"ScanScope" not in one.read_bytes()
        assert complaints(one) == []
    again = take_in(tmp_path / "out")
    readers = [open_slide(image_path(one)) for one in (image, again)]
    try:
        before, after = (r.read_region_l0(300, 400, 512, 512, 512, 512) for r in readers)
    finally:
        for reader in readers:
            reader.close()
    assert np.abs(before.astype(int) - after.astype(int)).max() <= 3  # two JPEG decoders
