"""Regions and maps as DICOM objects: what they say, where they lie, and that they are one."""

import os

import highdicom
import numpy as np
import pydicom
import pytest
from django.core.management import call_command
from django.utils import timezone
from django_q.models import OrmQ

from cases.models import DerivedInstance
from cases.services.derived import derived_sweep
from retrieval import tasks
from retrieval.engine.dicom_results import OUTSIDE
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideIndex
from retrieval.services import dicom_results
from retrieval.services.features import features_path, features_place, features_prepare
from tests.cases.intake.conftest import (  # noqa: F401  (fixtures)
    data_dir,
    deliver,
    department,
    technician,
)
from tests.dciodvfy import complaints, kind_of
from tests.synthetic_slide import write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db
SIZE, COLUMNS, ROWS = 128, 8, 6
SCHEMA = {"annotations": "MicroscopyBulkSimpleAnnotations", "parametric_map": "ParametricMap"}


@pytest.fixture
def model(db) -> EmbeddingModel:
    return EmbeddingModel.objects.create(
        name="tiny-prototypes-v1",
        modality="image",
        encoder="tiny",
        aggregator="prototypes",
        weights_sha256="ab" * 32,
        dimension=4,
        token_count=2,
        is_active=True,
    )


@pytest.fixture(params=["dicom", "vendor"])
def image(request, model, deliver, tmp_path):  # noqa: F811
    if request.param == "dicom":
        folder = write_dicom_slide(tmp_path / "slide", label=True)
        (item,) = deliver(folder).items.all()
    else:
        file = write_tiff_slide(tmp_path / "in" / "slide.tiff")
        (item,) = deliver(file, accession_number="S26-9", mrn="M9", organ="Lung").items.all()
    assert item.state == "accepted", item.reason
    return item.slide_image


def index_as(image, model, *, seed: int = 0) -> SlideIndex:
    """Write what indexing writes: features, tokens, places and the finished row."""
    x, y = np.meshgrid(np.arange(COLUMNS) * SIZE, np.arange(ROWS - 1) * SIZE)
    coords = np.stack([x.ravel(), y.ravel()], 1).astype(np.int64)
    rng = np.random.default_rng(seed)
    features = rng.random((len(coords), 4)).astype(np.float16)
    tokens = np.eye(2, 4, dtype=np.float16)
    path = features_path(image.pk, model.name)
    features_place(features_prepare(path, features=features, coords_l0=coords, size_l0=SIZE), path)
    places = [
        {"x_l0": 128, "y_l0": 256, "size_l0": SIZE, "share": 0.75},
        {"x_l0": 0, "y_l0": 0, "size_l0": SIZE, "share": 0.25},
    ]
    SlideEmbedding.objects.update_or_create(
        slide_image=image,
        model=model,
        defaults={
            "department": image.department,
            "vector": [1.0, 0, 0, 0],
            "mosaic": tokens.tobytes(),
            "places": places,
        },
    )
    index, _created = SlideIndex.objects.update_or_create(
        slide_image=image,
        model=model,
        defaults={
            "department": image.department,
            "state": "indexed",
            "features_path": path,
            "finished_at": timezone.now(),
        },
    )
    return index


def by_kind(image) -> dict[str, DerivedInstance]:
    return {row.kind: row for row in DerivedInstance.objects.filter(slide_image=image)}


def test_both_objects_are_written_valid_and_of_the_slides_study(image, model):
    dicom_results.results_write(index=index_as(image, model))
    rows = by_kind(image)
    assert set(rows) == set(SCHEMA)
    source = dicom_results._source_header(image)
    for kind, row in rows.items():
        dataset = pydicom.dcmread(row.path)
        assert complaints(row.path) == []
        assert "CommonZCoordinateValue" not in {element.keyword for element in dataset.iterall()}
        assert kind_of(row.path) == SCHEMA[kind]
        assert dataset.StudyInstanceUID == source.StudyInstanceUID == row.study_instance_uid
        assert dataset.SeriesInstanceUID == row.series_instance_uid != source.SeriesInstanceUID
        if kind == "parametric_map":  # annotations in pixels need none
            assert dataset.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert dataset.PatientID == source.PatientID
        (series,) = dataset.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.SeriesInstanceUID
        (reference,) = series.ReferencedInstanceSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert dataset.ManufacturerModelName == model.name


def test_the_annotations_are_the_mosaic_and_the_patches_of_each_token(image, model):
    dicom_results.results_write(index=index_as(image, model))
    read = highdicom.ann.MicroscopyBulkSimpleAnnotations.from_dataset(
        pydicom.dcmread(by_kind(image)["annotations"].path)
    )
    groups = read.get_annotation_groups()
    mosaic = groups[0]
    assert mosaic.label == "Mosaic regions"
    boxes = mosaic.get_graphic_data(coordinate_type="2D")
    assert boxes[0].tolist() == [[128, 256], [256, 256], [256, 384], [128, 384]]
    names, values, units = mosaic.get_measurements()
    assert [name.value for name in names] == ["TISSUE_SHARE"]
    assert values[:, 0].tolist() == [0.75, 0.25]
    assert [unit.scheme_designator for unit in units] == ["UCUM"]
    algorithm = mosaic.algorithm_identification[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
        model.name,
        f"tiny {'ab' * 8}",
    )
    # Every patch stands in exactly one token's group.
    corners = sorted(tuple(box[0]) for group in groups[1:] for box in group.get_graphic_data("2D"))
    wanted = {(x * SIZE, y * SIZE) for x in range(COLUMNS) for y in range(ROWS - 1)}
    assert corners == sorted(wanted)


def test_the_map_lies_on_the_slide_with_a_pixel_a_patch(image, model):
    index = index_as(image, model)
    dicom_results.results_write(index=index)
    dataset = pydicom.dcmread(by_kind(image)["parametric_map"].path)
    assert (dataset.Rows, dataset.Columns) == (ROWS, COLUMNS)
    values = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(ROWS, COLUMNS)
    assert (values[-1] == OUTSIDE).all()  # no patch there
    kept = dicom_results.features_read(index.features_path)
    rows = kept.features.astype(np.float32)
    likeness = (rows / np.linalg.norm(rows, axis=1, keepdims=True))[:, :2].max(1)
    assert values[:-1].ravel() == pytest.approx(likeness, abs=1e-3)
    spacing = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert [float(value) for value in spacing] == pytest.approx([image.mpp * SIZE / 1000] * 2)
    assert dataset.ImageOrientationSlide == [0, -1, 0, -1, 0, 0]


def test_the_same_result_is_written_once_and_another_replaces_it(
    image, model, django_capture_on_commit_callbacks
):
    index = index_as(image, model)
    first = dicom_results.results_write(index=index)
    again = dicom_results.results_write(index=index)
    assert [row.sop_instance_uid for row in first] == [row.sop_instance_uid for row in again]
    assert [row.sha256 for row in first] == [row.sha256 for row in again]
    with django_capture_on_commit_callbacks(execute=True):
        dicom_results.results_write(index=index_as(image, model, seed=1))
    rows = by_kind(image)
    assert len(rows) == DerivedInstance.objects.count() == 2
    for old in first:
        new = rows[old.kind]
        assert new.sop_instance_uid != old.sop_instance_uid
        assert new.series_instance_uid == old.series_instance_uid
        assert new.path.is_file()
        assert not old.path.exists()


def test_the_command_and_the_sweep_write_what_is_missing_or_outdated(image, model):
    index_as(image, model)
    call_command("write_dicom_results")
    before = {row.sop_instance_uid for row in by_kind(image).values()}
    assert len(before) == 2
    assert dicom_results.results_sweep() == 0
    index_as(image, model, seed=2)
    assert dicom_results.results_sweep() == 1
    assert before.isdisjoint(row.sop_instance_uid for row in by_kind(image).values())
    assert dicom_results.results_sweep() == 0


def test_they_are_written_when_the_api_asks(image, model, technician, client):  # noqa: F811
    index = index_as(image, model)
    client.force_login(technician)
    answer = client.post(f"/api/v1/index-status/{index.pk}/dicom-results/")
    assert answer.status_code == 202
    queued = [message.task for message in OrmQ.objects.filter(key="indexing")]
    assert (dicom_results.TASK, (str(index.pk),)) in [(t["func"], t["args"]) for t in queued]
    assert tasks.write_dicom_results_task(str(index.pk))
    assert set(by_kind(image)) == set(SCHEMA)


def test_the_sweep_removes_files_that_no_row_names(image, model):
    rows = dicom_results.results_write(index=index_as(image, model))
    folder = rows[0].path.parent
    left = folder / "left.dcm.partial"
    left.write_bytes(b"half")
    assert derived_sweep() == 0  # it may be being written
    for file in folder.iterdir():
        os.utime(file, (0, 0))
    assert derived_sweep() == 1
    assert not left.exists()
    assert all(row.path.is_file() for row in rows)


def test_they_are_offered_over_dicomweb_with_the_slide(image, model, technician, client):  # noqa: F811
    dicom_results.results_write(index=index_as(image, model))
    client.force_login(technician)
    rows = by_kind(image)
    study = f"/dicomweb/studies/{rows['annotations'].study_instance_uid}"
    metadata = client.get(f"{study}/metadata", headers={"Accept": "application/dicom+json"}).json()
    found = {item["00080018"]["Value"][0]: item["00080060"]["Value"][0] for item in metadata}
    assert found[rows["annotations"].sop_instance_uid] == "ANN"
    assert found[rows["parametric_map"].sop_instance_uid] == "OT"
    studies = client.get(
        "/dicomweb/studies?ModalitiesInStudy=ANN", headers={"Accept": "application/dicom+json"}
    ).json()
    assert [one["0020000D"]["Value"] for one in studies] == [
        [rows["annotations"].study_instance_uid]
    ]
    assert set(studies[0]["00080061"]["Value"]) == {"SM", "ANN", "OT"}
    for row in rows.values():
        address = f"{study}/series/{row.series_instance_uid}/instances/{row.sop_instance_uid}"
        answer = client.get(address, headers={"Accept": "application/dicom"})
        assert answer.status_code == 200
        assert b"".join(answer.streaming_content) == row.path.read_bytes()
