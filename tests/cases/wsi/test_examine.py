"""What an examination finds and what it refuses."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cases.wsi.delivery import Delivery, Limits
from cases.wsi.examine import examine
from tests.cases.wsi.bad_inputs import BAD_INPUTS
from tests.synthetic_slide import make_uid, picture, write_dicom_slide, write_tiff_slide

LIMITS = Limits(max_unpacked_bytes=100_000_000, max_files=200)


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_refused_by_name_beside_a_good_slide(tmp_path, name):
    make, code = BAD_INPUTS[name]
    make(tmp_path)
    write_tiff_slide(tmp_path / "good.tiff", rgb=picture(300, 200), levels=1)
    found = examine(tmp_path, LIMITS)
    assert [slide.name for slide in found.slides] == ["good.tiff"]
    assert {refused.code for refused in found.refused} == {code}
    for refused in found.refused:
        assert refused.message.endswith((".", "?"))
        assert str(tmp_path) not in refused.message
        assert "MRN" not in refused.message


def test_dicom_series_says_who_and_what(tmp_path):
    write_dicom_slide(tmp_path / "slide", label=True)
    (slide,) = examine(tmp_path).slides
    assert (slide.source_format, slide.vendor, slide.main_file) == ("dicom", "dicom", "")
    assert (slide.mrn, slide.mrn_issuer) == ("MRN-1", "hospital")
    assert (slide.family_name, slide.given_name) == ("Doe", "Jane")
    assert (slide.birth_date, slide.sex) == ("1950-01-02", "F")
    assert (slide.accession_number, slide.accession_issuer) == ("S26-1", "lis")
    assert (slide.organ, slide.stain, slide.container_id) == ("Lung", "H&E", "SLIDE-1")
    assert (slide.width_l0, slide.height_l0, slide.level_count) == (1024, 768, 3)
    assert (slide.mpp, slide.mpp_source, slide.objective_power) == (0.5, "file", 20.0)
    assert (slide.scanner, slide.scanned_at) == ("Example Scanner 1", "2026-01-02T03:04:05")
    assert slide.has_label_image and not slide.is_fluorescence
    assert sorted(instance.flavor for instance in slide.instances) == ["label"] + ["volume"] * 3
    assert slide.files == tuple(
        f"slide/{name}" for name in ("label.dcm", "level-0.dcm", "level-1.dcm", "level-2.dcm")
    )
    assert slide.name == "slide"


def test_content_hash_is_of_the_sorted_hashes_whatever_the_names(tmp_path):
    folder = write_dicom_slide(tmp_path / "one" / "slide")
    expected = hashlib.sha256(
        "".join(
            sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir())
        ).encode()
    ).hexdigest()
    (one,) = examine(tmp_path / "one").slides
    other = tmp_path / "two"
    other.mkdir()
    for number, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copy(file, other / f"IM{number}")
    (two,) = examine(other).slides
    assert one.content_sha256 == two.content_sha256 == expected
    file = write_tiff_slide(tmp_path / "three" / "a.tiff")
    (three,) = examine(tmp_path / "three").slides
    assert three.content_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_duplicate_instance_is_taken_once(tmp_path):
    write_dicom_slide(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (slide,) = examine(tmp_path).slides
    assert len(slide.instances) == 3
    assert examine(tmp_path / "a").slides[0].content_sha256 == slide.content_sha256


def test_scattered_series_zip_and_vendor_file_in_one_delivery(tmp_path):
    one = write_dicom_slide(tmp_path / "source/one", seed=1, accession_number="S1")
    two = write_dicom_slide(tmp_path / "source/two", seed=2, accession_number="S2")
    inbox = tmp_path / "inbox"
    (inbox / "mixed").mkdir(parents=True)
    for folder in (one, two):
        for file in folder.iterdir():
            shutil.copy(file, inbox / "mixed" / f"{folder.name}-{file.name}")
    with zipfile.ZipFile(inbox / "more.zip", "w") as archive:
        file = write_tiff_slide(tmp_path / "source/three.tiff", mpp=None)
        archive.write(file, "scans/three.tiff")
        archive.writestr("__MACOSX/scans/._three.tiff", b"x")
        archive.writestr("scans/Thumbs.db", b"x")
    (inbox / ".DS_Store").write_bytes(b"x")
    (inbox / "DICOMDIR").write_bytes(b"x")
    found = examine(inbox)
    assert found.refused == ()
    assert sorted(slide.accession_number for slide in found.slides) == ["", "S1", "S2"]
    tiff = next(slide for slide in found.slides if slide.source_format == "vendor")
    assert (tiff.name, tiff.key) == ("more.zip/scans/three.tiff",) * 2
    assert (inbox / tiff.main_file).is_file()
    assert (tiff.mpp, tiff.mpp_source) == (None, "")


def test_placeholders_are_no_facts(tmp_path):
    write_dicom_slide(
        tmp_path / "s", patient_id="?", accession_number="Unknown", container_id="UNKNOWN",
        patient_name="", birth_date="", sex="", organ="", stain="", patient_issuer="",
        accession_issuer="",
    )  # fmt: skip
    (slide,) = examine(tmp_path).slides
    told = (
        slide.mrn,
        slide.accession_number,
        slide.container_id,
        slide.family_name,
        slide.organ,
        slide.stain,
        slide.birth_date,
        slide.sex,
        slide.mrn_issuer,
        slide.accession_issuer,
    )
    assert set(told) == {""}


def test_other_stains_keep_their_names(tmp_path):
    write_dicom_slide(tmp_path / "s", stain="Ki-67")
    assert examine(tmp_path).slides[0].stain == "Ki-67"


def test_fluorescence_by_illumination(tmp_path):
    def change(number: int, dataset: Dataset) -> None:
        code = dataset.OpticalPathSequence[0].IlluminationTypeCodeSequence[0]
        code.CodeValue, code.CodeMeaning = "111743", "Epifluorescence illumination"

    write_dicom_slide(tmp_path / "s", change=change)
    assert examine(tmp_path).slides[0].is_fluorescence


def test_one_channel_is_fluorescence(tmp_path):
    def change(number: int, dataset: Dataset) -> None:
        tiles = int(dataset.NumberOfFrames)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        del dataset.PlanarConfiguration
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelData = (np.ones((tiles, 256, 256), "<u2") * 512).tobytes()
        dataset["PixelData"].VR = "OW"

    write_dicom_slide(tmp_path / "s", jpeg=False, change=change)
    found = examine(tmp_path)
    assert found.slides[0].is_fluorescence


def test_dark_vendor_file_is_fluorescence(tmp_path):
    write_tiff_slide(tmp_path / "dark.tiff", rgb=picture(500, 400) // 12)
    write_tiff_slide(tmp_path / "light.tiff", rgb=picture(500, 400))
    dark, light = examine(tmp_path).slides
    assert (dark.is_fluorescence, light.is_fluorescence) == (True, False)


def test_vendor_properties(tmp_path):
    description = (
        "Aperio Image Library v1\r\n|AppMag = 40|MPP = 0.25|ScanScope ID = SS7"
        "|Date = 12/29/09|Time = 09:59:15|Barcode = B-77"
    )
    write_tiff_slide(tmp_path / "a.svs", mpp=None, description=description)
    (slide,) = examine(tmp_path).slides
    assert (slide.vendor, slide.mpp, slide.objective_power) == ("aperio", 0.25, 40)
    assert (slide.scanner, slide.scanned_at) == ("Aperio SS7", "2009-12-29T09:59:15")
    assert slide.container_id == "B-77"


def test_content_decides_and_not_the_name(tmp_path):
    write_tiff_slide(tmp_path / "slide.dat", levels=1)
    shutil.move(write_dicom_slide(tmp_path / "d", levels=1) / "level-0.dcm", tmp_path / "x.svs")
    found = examine(tmp_path)
    assert sorted(slide.source_format for slide in found.slides) == ["dicom", "vendor"]


def test_too_many_files(tmp_path):
    for number in range(12):
        (tmp_path / f"{number}.svs").write_bytes(b"x")
    (refused,) = examine(tmp_path, Limits(max_files=10)).refused
    assert refused.code == "too_many_files"


def test_another_kind_of_object_in_the_series_does_not_cost_the_slide(tmp_path):
    def note(number: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
        dataset.SOPInstanceUID = make_uid("note")

    series = make_uid("series with a note")
    write_dicom_slide(tmp_path / "s", series_uid=series)
    write_dicom_slide(tmp_path / "n", series_uid=series, levels=1, change=note)
    found = examine(tmp_path)
    assert len(found.slides) == 1 and len(found.slides[0].instances) == 3
    assert [refused.code for refused in found.refused] == ["not_wsi_dicom"]


def test_delivery_survives_json(tmp_path):
    write_dicom_slide(tmp_path / "s", label=True)
    (tmp_path / "x.txt").write_text("x")
    found = examine(tmp_path)
    assert Delivery.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert Limits.from_json(json.loads(json.dumps(LIMITS.to_json()))) == LIMITS


def test_links_are_not_followed(tmp_path):
    outside = write_tiff_slide(tmp_path / "outside" / "a.tiff", levels=1)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "link.tiff").symlink_to(outside)
    (inbox / "folder").symlink_to(outside.parent)
    assert examine(inbox) == Delivery()


def copy_writable(source: Path, target: Path) -> Path:
    """Copy files without the read-only mode of the shared folder."""
    for file in source.rglob("*"):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    return target


def test_all_real_slides(shared_data, tmp_path):
    found = examine(copy_writable(shared_data / "slides", tmp_path / "in"))
    facts = {
        slide.name: (slide.vendor, slide.level_count, slide.mpp_source, slide.has_label_image)
        for slide in found.slides
    }
    assert facts == {
        "dicom/camelyon-jpeg/multi_frame_jpeg_camelyon_challenge_image.dcm":
            ("dicom", 1, "file", False),
        "dicom/cmu-1-small-region": ("dicom", 12, "file", False),
        "dicom/cmu-1-small-region-with-label": ("dicom", 5, "file", True),
        "dicom/tiled-full-with-bot/full_with_bot.dcm": ("dicom", 1, "file", False),
        "svs/cmu-1-small-region.svs": ("aperio", 1, "file", True),
        "svs/tcga-cr-7395-01a-01-ts1.svs": ("aperio", 2, "", False),
    }  # fmt: skip
    assert [(refused.name, refused.code) for refused in found.refused] == [
        ("edge/broken.svs", "corrupt")
    ]
    flavors = {
        instance.flavor
        for slide in found.slides
        if slide.name.endswith("with-label")
        for instance in slide.instances
    }
    assert flavors == {"volume", "thumbnail", "label", "overview"}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95, 0.9999])
@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_cut_svs_is_truncated(shared_data, tmp_path, name, share):
    data = (shared_data / "slides/svs" / name).read_bytes()
    (tmp_path / "cut.svs").write_bytes(data[: int(len(data) * share)])
    found = examine(tmp_path)
    assert [refused.code for refused in found.refused] == ["truncated"]
    assert not found.slides


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.99, 0.99999])
def test_cut_real_dicom_is_truncated(shared_data, tmp_path, share):
    copy_writable(shared_data / "slides/dicom/cmu-1-small-region", tmp_path / "s")
    file = tmp_path / "s/level-0-frames-0-30.dcm"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    found = examine(tmp_path)
    assert not found.slides
    assert {refused.code for refused in found.refused} == {"truncated"}
