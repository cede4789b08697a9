"""Debian's dciodvfy on all images that we write: exports, the demo's, vendors' virtual ones."""

from pathlib import Path

import pydicom
import pytest

from cases.demo.dicom import SlideHeader, write_series
from cases.demo.pyramid import pyramid
from cases.dicomweb.virtual import virtual_objects
from tests.cases.exports.conftest import unpacked
from tests.dciodvfy import complaints, kind_of
from tests.synthetic_slide import picture, write_tiff_slide

pytestmark = pytest.mark.django_db
HEADER = SlideHeader(
    mrn="4711",
    mrn_issuer="hospital",
    family_name="Müller",
    given_name="Åsa",
    birth_date="19500102",
    sex="F",
    accession_number="S26-1",
    accession_issuer="lis",
    container_id="S26-1-A",
    specimen_id="A",
    organ="Lung",
    scanned_on="20260102",
    scanner="Demo 40",
    mpp=0.5,
)


@pytest.fixture
def demo(tmp_path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    write_series(folder, pyramid(picture()), HEADER)
    return folder


def test_the_demos_series(demo):
    files = sorted(demo.iterdir())
    assert len(files) == 3
    for file in files:
        assert kind_of(file) == "VLWholeSlideMicroscopyImage"
        assert complaints(file) == [], file.name


def test_an_export_of_it(demo, take_in, make_export, tmp_path):
    image = take_in(demo)
    export = make_export(image)
    files = unpacked(export, tmp_path / "out")
    assert len(files) == 2
    for file in files:
        assert kind_of(file) == "VLWholeSlideMicroscopyImage"
        assert complaints(file) == [], file.name
        # The stain stays, as codes.
        steps = pydicom.dcmread(file).SpecimenDescriptionSequence[0].SpecimenPreparationSequence
        values = {
            item.ConceptCodeSequence[0].CodeValue
            for item in steps[0].SpecimenPreparationStepContentItemSequence
            if item.ValueType == "CODE"
        }
        assert values == {"127790008", "12710003", "36879007"}
    again = take_in(tmp_path / "out")
    assert (again.slide.stain, again.slide.specimen.organ) == ("H&E", "Lung")


def test_the_virtual_instances_of_a_vendors_file(take_in, tmp_path):
    image = take_in(
        write_tiff_slide(tmp_path / "in" / "slide.tiff"),
        accession_number="S26-2",
        mrn="M2",
        organ="Lung",
        stain="H&E",
    )
    for one in virtual_objects(image):
        file = tmp_path / f"{one.sop_uid}.dcm"
        file.write_bytes(b"".join(one.pieces()))
        assert kind_of(file) == "VLWholeSlideMicroscopyImage"
        assert complaints(file) == []
