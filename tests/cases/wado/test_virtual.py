"""Vendors' slides over WADO-RS: conforming, stable, their own tiles where they can be reused."""

import io
import re
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import generate_frames

from cases.dicomweb.virtual import virtual_objects
from cases.models import Patient, SlideImage
from cases.services import store
from cases.wsi.jpeg import read_header
from cases.wsi.reader import open_slide
from cases.wsi.wsidicom_reader import WsiDicomReader
from tests.cases.intake.conftest import only_item
from tests.cases.wado.bodies import body_of, parts_of
from tests.cases.wado.conftest import reader
from tests.factories import DepartmentFactory, make_member
from tests.synthetic_slide import write_tiff_slide

pytestmark = pytest.mark.django_db

# Nothing is tolerated: a warning, too, is looked at.
TOLERATED: tuple[str, ...] = ()


@pytest.fixture
def image(deliver, department, tmp_path) -> SlideImage:
    file = write_tiff_slide(tmp_path / "slide.tiff", mpp=0.5)
    upload = deliver(file, accession_number="S26-7", mrn="M7")
    return _fresh(only_item(upload).slide_image.pk)


def _fresh(pk) -> SlideImage:
    return SlideImage.objects.select_related("slide__case__patient", "slide__specimen").get(pk=pk)


def address_of(one) -> str:
    return f"/dicomweb{one.path}"


def test_a_researcher_gets_pixels_and_a_cleaned_header(pathologist, researcher, image):
    one = virtual_objects(image)[0]
    plain, told = (
        r.get(f"{address_of(one)}/metadata").json()[0] for r in (pathologist, researcher)
    )
    assert plain["00100020"]["Value"] == ["M7"] and told["00100020"]["Value"] != ["M7"]
    assert told["00480006"] == plain["00480006"] and "M7" not in str(told)
    assert "S26-7" in str(plain) and "S26-7" not in str(told)
    found = researcher.get("/dicomweb/instances", {"includefield": "all"}).json()
    assert "M7" not in str(found) and found[0]["00100020"] == told["00100020"]
    accept = {"Accept": "image/jpeg"}
    frames = [
        r.get(f"{address_of(one)}/frames/1", headers=accept) for r in (pathologist, researcher)
    ]
    assert body_of(frames[0]) == body_of(frames[1])
    assert researcher.get(address_of(one)).status_code == 403


def test_each_level_is_an_instance_with_the_slides_pixels(pathologist, image, tmp_path):
    objects = virtual_objects(image)
    assert len(objects) == image.level_count
    study = f"/dicomweb/studies/{objects[0].study_uid}"
    told = pathologist.get(f"{study}/metadata").json()
    assert [one["00080018"]["Value"][0] for one in told] == [one.sop_uid for one in objects]
    assert {one["00100020"]["Value"][0] for one in told} == {"M7"}
    assert told[0]["00480006"]["Value"] == [image.width_l0]
    # The whole files are a slide that another reader opens.
    folder = tmp_path / "taken"
    folder.mkdir()
    for number, (kind, content) in enumerate(
        parts_of(
            pathologist.get(
                study, headers={"Accept": 'multipart/related; type="application/dicom"'}
            )
        )
    ):
        assert "1.2.840.10008.1.2.4.50" in kind
        (folder / f"{number}.dcm").write_bytes(content)
    ours, theirs = open_slide(store.image_path(image)), WsiDicomReader(sorted(folder.iterdir()))
    assert theirs.level_dimensions == ours.level_dimensions
    assert theirs.mpp == pytest.approx(ours.mpp, rel=1e-4)
    whole = (0, 0, image.width_l0, image.height_l0, image.width_l0, image.height_l0)
    difference = ours.read_region_l0(*whole).astype(int) - theirs.read_region_l0(*whole)
    assert np.abs(difference).mean() < 3


def test_frames_alone_are_the_frames_of_the_whole_file(pathologist, image):
    for one in virtual_objects(image):
        whole = body_of(pathologist.get(address_of(one), headers={"Accept": "application/dicom"}))
        dataset = pydicom.dcmread(io.BytesIO(whole))
        frames = list(generate_frames(dataset.PixelData, number_of_frames=one.frame_count))
        assert dataset.NumberOfFrames == one.frame_count == len(frames)
        for number in {1, one.frame_count}:
            url = f"{address_of(one)}/frames/{number}"
            frame = body_of(pathologist.get(url, headers={"Accept": "image/jpeg"}))
            assert frames[number - 1].rstrip(b"\0") == frame.rstrip(b"\0")
            header = read_header(frame)
            assert (header.width, header.height) == (dataset.Columns, dataset.Rows)
            assert header.photometric(is_rgb=False) == dataset.PhotometricInterpretation
        assert pathologist.get(f"{address_of(one)}/frames/{one.frame_count + 1}").status_code == 404


def test_pictures_and_bulk_data(pathologist, image):
    one = virtual_objects(image)[0]
    for url in ("/rendered", "/thumbnail", "/frames/1/rendered"):
        answer = pathologist.get(address_of(one) + url)
        assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
    icc = pathologist.get(f"{address_of(one)}/bulkdata/00480105/0/00282000")
    assert icc.content[36:40] == b"acsp"


def test_uids_stay_and_headers_follow_the_records(pathologist, image):
    one = virtual_objects(image)[0]
    url = f"{address_of(one)}/metadata"
    first = pathologist.get(url)
    assert pathologist.get(url).content == first.content
    patient = Patient.objects.get()
    patient.family_name = "Renamed"
    patient.save()
    second = pathologist.get(url, headers={"If-None-Match": first["ETag"]})
    assert second.status_code == 200
    assert second.json()[0]["00100010"]["Value"] == [{"Alphabetic": "Renamed"}]
    assert virtual_objects(_fresh(image.pk))[0].sop_uid == one.sop_uid
    # So no browser may keep the file without asking.
    assert pathologist.get(address_of(one))["Cache-Control"] == "private, no-cache"


def test_hidden_is_missing(image):
    one = virtual_objects(image)[0]
    stranger = reader(make_member(DepartmentFactory(), "pathologist"))
    assert stranger.get(f"{address_of(one)}/frames/1").status_code == 404
    assert stranger.get(f"/dicomweb/studies/{one.study_uid}").status_code == 404


@pytest.mark.shared_data
def test_an_svs_goes_out_with_its_own_tiles_and_its_label_apart(
    deliver, department, pathologist, researcher, shared_data
):
    path = shared_data / "slides" / "svs" / "cmu-1-small-region.svs"
    if not path.exists():
        pytest.skip(f"no {path.name}")
    image = _fresh(only_item(deliver(path, accession_number="S26-8", mrn="M8")).slide_image.pk)
    level, label = virtual_objects(image)
    file = path.read_bytes()
    reference = open_slide(path)
    for number in (1, 10, level.frame_count):
        url = f"{address_of(level)}/frames/{number}"
        frame = body_of(pathologist.get(url, headers={"Accept": "image/jpeg"}))
        # The coded data is the file's own, byte for byte.
        assert frame[frame.index(b"\xff\xda") :].rstrip(b"\0") in file
        column, row = (number - 1) % level.level.columns, (number - 1) // level.level.columns
        rgb = np.asarray(Image.open(io.BytesIO(frame)).convert("RGB"))
        left, top = column * 240, row * 240
        width, height = min(240, 2220 - left), min(240, 2967 - top)
        expected = reference.read_region_l0(left, top, width, height, width, height)
        assert np.array_equal(rgb[:height, :width], expected)
    (told,) = pathologist.get(f"{address_of(level)}/metadata").json()
    assert told["00280004"]["Value"] == ["RGB"]
    study = f"/dicomweb/studies/{level.study_uid}"
    assert len(pathologist.get(f"{study}/metadata").json()) == 2
    assert len(researcher.get(f"{study}/metadata").json()) == 1
    assert pathologist.get(f"{address_of(label)}/rendered").status_code == 200
    assert researcher.get(f"{address_of(label)}/rendered").status_code == 404


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools' dciodvfy is missing")
@pytest.mark.parametrize("name", ["", "cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_dciodvfy_finds_no_error(deliver, department, pathologist, request, tmp_path, name):
    if name:
        path = request.getfixturevalue("shared_data") / "slides" / "svs" / name
        if not path.exists():
            pytest.skip(f"no {name}")
    else:
        path = write_tiff_slide(tmp_path / "slide.tiff", mpp=0.5)
    form = {"accession_number": "S26-9", "mrn": "M9", "mpp": 0.5}
    image = _fresh(only_item(deliver(path, **form)).slide_image.pk)
    wrong = []
    for one in virtual_objects(image):
        file = tmp_path / "virtual.dcm"
        file.write_bytes(
            body_of(pathologist.get(address_of(one), headers={"Accept": "application/dicom"}))
        )
        told = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True).stderr
        wrong += [
            line
            for line in told.splitlines()
            if re.match(r"(Error|Warning)", line) and not any(text in line for text in TOLERATED)
        ]
    assert wrong == []
