"""Objects that were made here from a slide go out over WADO-RS beside it."""

import hashlib

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ParametricMapStorage

from cases.models import DerivedInstance
from tests.cases.intake.conftest import only_item
from tests.cases.wado.bodies import body_of, parts_of
from tests.cases.wado.conftest import reader
from tests.factories import DepartmentFactory, make_member
from tests.synthetic_slide import make_uid, picture, write_dicom_slide

pytestmark = pytest.mark.django_db

MAP = np.arange(2 * 6 * 8, dtype="<f4").reshape(2, 6, 8)


@pytest.fixture(params=["map", "annotations"])
def derived(deliver, department, tmp_path, request) -> DerivedInstance:
    folder = write_dicom_slide(tmp_path / "s", rgb=picture(300, 300), levels=1)
    image = only_item(deliver(folder)).slide_image
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID = ParametricMapStorage, make_uid("derived", request.param)
    d.StudyInstanceUID, d.SeriesInstanceUID = image.study_instance_uid, make_uid("derived series")
    d.Modality = "OT"
    if request.param == "map":
        d.Rows, d.Columns, d.NumberOfFrames, d.SamplesPerPixel = 6, 8, 2, 1
        d.BitsAllocated, d.PhotometricInterpretation = 32, "MONOCHROME2"
        d.FloatPixelData = MAP.tobytes()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    row = DerivedInstance(
        department=image.department,
        slide_image=image,
        kind="parametric_map" if request.param == "map" else "annotations",
        maker="test",
        sop_class_uid=d.SOPClassUID,
        sop_instance_uid=d.SOPInstanceUID,
        study_instance_uid=d.StudyInstanceUID,
        series_instance_uid=d.SeriesInstanceUID,
        modality="OT",
        series_number=2,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        file_name="derived.dcm",
        size_bytes=0,
        rows=6 if request.param == "map" else None,
        columns=8 if request.param == "map" else None,
        frame_count=2 if request.param == "map" else None,
    )
    row.path.parent.mkdir(parents=True)
    d.save_as(row.path, enforce_file_format=True)
    row.size_bytes = row.path.stat().st_size
    row.sha256 = hashlib.sha256(row.path.read_bytes()).hexdigest()
    row.save()
    return row


def test_it_is_part_of_the_study(pathologist, derived):
    study = f"/dicomweb/studies/{derived.study_instance_uid}"
    one = f"{study}/series/{derived.series_instance_uid}/instances/{derived.sop_instance_uid}"
    whole = derived.path.read_bytes()
    assert whole in [content for _kind, content in parts_of(pathologist.get(study))]
    assert body_of(pathologist.get(one, headers={"Accept": "application/dicom"})) == whole
    assert len(pathologist.get(f"{study}/metadata").json()) == 2
    (told,) = pathologist.get(f"{one}/metadata").json()
    assert told["00080018"]["Value"] == [derived.sop_instance_uid]
    assert pathologist.get(f"{one}/rendered").status_code == 406
    stranger = reader(make_member(DepartmentFactory(), "pathologist"))
    assert stranger.get(f"{one}/metadata").status_code == 404
    if derived.frame_count is None:
        assert "7FE00010" not in told
        assert pathologist.get(f"{one}/frames/1").status_code == 404
        return
    octets = {"Accept": "application/octet-stream"}
    frame = body_of(pathologist.get(f"{one}/frames/2", headers=octets))
    assert np.array_equal(np.frombuffer(frame, "<f4").reshape(6, 8), MAP[1])
    parts = parts_of(pathologist.get(told["7FE00008"]["BulkDataURI"]))
    assert (
        b"".join(content for _kind, content in parts)
        == pydicom.dcmread(derived.path).FloatPixelData
    )
