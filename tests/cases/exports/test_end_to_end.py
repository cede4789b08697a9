"""From a slide full of identifiers to an archive without any, and back in through the intake."""

import csv
import hashlib
import json
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from cases.models import AccessEvent, Export
from cases.services import exports
from cases.services.export_projects import export_project_open
from cases.services.store import image_path
from cases.wsi.reader import open_slide
from tests.cases.exports.conftest import unpacked
from tests.cases.exports.planted import DATE, secrets_in, write_planted_slide
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db


def all_bytes(export: Export) -> dict[str, bytes]:
    with zipfile.ZipFile(exports.export_file(export)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("jpeg", [True, False])
def test_nothing_is_left_of_a_planted_slide(take_in, make_export, tmp_path, jpeg):
    folder = write_planted_slide(tmp_path / "slide", jpeg=jpeg)
    planted = b"".join(file.read_bytes() for file in folder.iterdir())
    assert len(secrets_in(planted)) > 4  # they are there before
    export = make_export(take_in(folder))
    assert (export.state, export.reason) == ("finished", "")
    assert secrets_in(exports.export_file(export).read_bytes()) == []
    files = all_bytes(export)
    for name, data in files.items():
        assert secrets_in(data) == [], name
        assert DATE.encode() not in data, name
        assert b"S26-" not in data, name
    assert len([name for name in files if name.endswith(".dcm")]) == 3  # and no label
    for file in unpacked(export, tmp_path / "out"):
        dataset = pydicom.dcmread(file)
        assert not [element for element in dataset.iterall() if element.tag.is_private]
        assert dataset.ImageType[2] == "VOLUME"
        assert dataset.PatientIdentityRemoved == "YES"
        codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
        assert codes[0] == "113100"
        organ = dataset.SpecimenDescriptionSequence[0].PrimaryAnatomicStructureSequence[0]
        assert (organ.CodeValue, organ.CodeMeaning) == ("39607008", "Lung")


def test_frames_are_the_sources_own_bytes(take_in, make_export, tmp_path):
    folder = write_dicom_slide(tmp_path / "slide")
    export = make_export(take_in(folder))
    source = pydicom.dcmread(folder / "level-0.dcm")
    made = pydicom.dcmread(unpacked(export, tmp_path / "out")[0])
    count = int(source.NumberOfFrames)
    pairs = zip(
        generate_frames(source.PixelData, number_of_frames=count),
        generate_frames(made.PixelData, number_of_frames=count),
        strict=True,
    )
    assert all(before.rstrip(b"\0") == after.rstrip(b"\0") for before, after in pairs)


def test_an_export_comes_in_again_with_the_same_pixels(take_in, make_export, tmp_path):
    first = take_in(write_planted_slide(tmp_path / "slide"))
    export = make_export(first)
    unpacked(export, tmp_path / "out")
    again = take_in(tmp_path / "out")
    assert again.pk != first.pk
    assert again.slide.case.patient.mrn.startswith("P")
    assert again.slide.case.pk != first.slide.case.pk
    assert again.slide.specimen.organ == "Lung"
    readers = [open_slide(image_path(image)) for image in (first, again)]
    try:
        before, after = (reader.read_region_l0(0, 0, 1024, 768, 1024, 768) for reader in readers)
        assert readers[0].mpp == pytest.approx(readers[1].mpp)
        assert readers[0].level_dimensions == readers[1].level_dimensions
    finally:
        for reader in readers:
            reader.close()
    assert np.array_equal(before, after)


def headers(export: Export, folder) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(f, stop_before_pixels=True) for f in unpacked(export, folder)]


def test_a_patient_is_linked_within_a_project_and_only_there(
    take_in, make_export, administrator, department, tmp_path
):
    one = take_in(write_dicom_slide(tmp_path / "a", seed=1, levels=1, container_id="A1"))
    two = take_in(
        write_dicom_slide(
            tmp_path / "b",
            seed=2,
            levels=1,
            container_id="B1",
            accession_number="S26-2",
            change=lambda number, d: setattr(d, "AcquisitionDateTime", "20260112030405"),
        )
    )
    other = export_project_open(user=administrator, department=department, name="Study two")
    a, b, again, foreign = (
        headers(make_export(image, of=project), tmp_path / f"out{number}")[0]
        for number, (image, project) in enumerate(
            [(one, None), (two, None), (one, None), (one, other)]
        )
    )
    assert a.PatientID == b.PatientID == again.PatientID
    assert a.StudyInstanceUID != b.StudyInstanceUID
    assert a.AccessionNumber != b.AccessionNumber
    assert (a.SOPInstanceUID, a.SeriesInstanceUID) == (
        again.SOPInstanceUID,
        again.SeriesInstanceUID,
    )
    # Ten days apart they stay, wherever in time they moved to.
    days = [
        int(np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:8]}").astype(int))
        for d in (a.AcquisitionDateTime, b.AcquisitionDateTime)
    ]
    assert days[1] - days[0] == 10
    assert a.AcquisitionDateTime[:8] != "20260102"
    assert a.AcquisitionDateTime[8:] == "000000"
    for keyword in (
        "PatientID",
        "StudyInstanceUID",
        "SOPInstanceUID",
        "AccessionNumber",
        "ContainerIdentifier",
        "FrameOfReferenceUID",
        "DeviceSerialNumber",
        "AcquisitionDateTime",
    ):
        assert a[keyword].value != foreign[keyword].value, keyword


def test_the_manifest_counts_and_says_nothing_more(take_in, make_export, tmp_path):
    image = take_in(write_planted_slide(tmp_path / "slide"))
    case = image.slide.case
    case.reports.create(
        version=1,
        status="final",
        diagnosis_line="Adenocarcinoma of Quixadelbaum",
        diagnosis_code="8140/3",
        diagnosis_system="ICD-O-3",
    )
    export = make_export(image, with_diagnoses=True)
    files = all_bytes(export)
    rows = list(csv.DictReader(files["manifest.csv"].decode().splitlines()))
    manifest = json.loads(files["manifest.json"])
    assert [row["file"] for row in rows] == [n for n in files if n.endswith(".dcm")]
    for row in rows:
        data = files[row["file"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert len(data) == int(row["size_bytes"])
        assert (row["diagnosis_system"], row["diagnosis_code"]) == ("ICD-O-3", "8140/3")
        assert row["organ"] == ""  # the record calls the organ by the patient's name
        assert row["frames_cleaned"] == row["frames"]
    assert (manifest["patients"], manifest["slides"], len(manifest["instances"])) == (1, 1, 3)
    assert manifest["options"][0]["code"] == "113100"
    archive = exports.export_file(export)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == export.sha256
    assert (export.slide_count, export.patient_count, export.instance_count) == (1, 1, 3)


def test_a_free_text_in_place_of_a_code_stays_behind(take_in, make_export, tmp_path):
    image = take_in(write_dicom_slide(tmp_path / "slide", levels=1))
    image.slide.case.reports.create(
        version=1, status="final", diagnosis_code="see Doe, Jane", diagnosis_system="ICD-O-3"
    )
    files = all_bytes(make_export(image, with_diagnoses=True))
    assert b"Doe" not in files["manifest.csv"]


def test_request_and_each_patient_are_events(take_in, make_export, tmp_path, researcher):
    image = take_in(write_dicom_slide(tmp_path / "slide", levels=1))
    export = make_export(image)
    events = AccessEvent.objects.filter(action="export", object_id=str(export.pk))
    acts = {event.detail["act"]: event for event in events}
    assert set(acts) == {"request", "exported"}
    assert acts["exported"].patient_id == image.slide.case.patient_id
    assert {event.user for event in events} == {researcher}
    exports.export_fetch(user=researcher, export=export)
    fetched = events.filter(detail__act="download")
    assert sorted(str(event.patient_id) for event in fetched) == sorted(
        ["None", str(image.slide.case.patient_id)]
    )
