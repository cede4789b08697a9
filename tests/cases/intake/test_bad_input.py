"""The table of bad input: each is refused by its name, on the page and by the API, and leaves
nothing behind."""

import struct
import zipfile
from pathlib import Path

import pytest

from cases.models import Case, SlideImage
from tests.cases.intake.conftest import stored
from tests.cases.intake.sending import send
from tests.synthetic_slide import picture, write_dicom_slide, write_tiff_slide

pytestmark = pytest.mark.django_db


def text(folder: Path) -> Path:
    (folder / "letter.txt").write_text("Dear colleague")
    return folder / "letter.txt"


def empty(folder: Path) -> Path:
    (folder / "empty.svs").touch()
    return folder / "empty.svs"


def jpeg(folder: Path) -> Path:
    from PIL import Image

    Image.fromarray(picture(64, 64)).save(folder / "photo.jpg")
    return folder / "photo.jpg"


def truncated_vendor(folder: Path) -> Path:
    file = write_tiff_slide(folder / "cut.tiff")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def truncated_dicom(folder: Path) -> Path:
    series = write_dicom_slide(folder / "cut")
    file = series / "level-0.dcm"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return series


def other_dicom(folder: Path) -> Path:
    def ct(number, dataset):
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"

    return write_dicom_slide(folder / "ct", levels=1, change=ct)


def absurd(folder: Path) -> Path:
    def huge(number, dataset):
        dataset.TotalPixelMatrixColumns = dataset.TotalPixelMatrixRows = 2**31

    return write_dicom_slide(folder / "huge", levels=1, change=huge)


def bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("slide.svs", b"\0" * (64 * 2**20))
    return folder / "bomb.zip"


def escaping(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "escape.zip", "w") as archive:
        archive.writestr("../../../slides/evil.svs", b"x")
    return folder / "escape.zip"


def link(folder: Path) -> Path:
    entry = zipfile.ZipInfo("link.svs")
    entry.create_system = 3
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "link.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    return folder / "link.zip"


def broken_zip(folder: Path) -> Path:
    (folder / "broken.zip").write_bytes(b"PK\x03\x04" + b"\1" * 100)
    return folder / "broken.zip"


def mixed_patients(folder: Path) -> Path:
    def other(number, dataset):
        dataset.PatientID = f"MRN-{number}"

    return write_dicom_slide(folder / "mixed", change=other)


def directory_only(folder: Path) -> Path:
    (folder / "in").mkdir()
    (folder / "in" / "Thumbs.db").write_bytes(struct.pack("<Q", 0))
    return folder / "in"


TABLE = {
    "a text": (text, "not_a_slide"),
    "an empty file": (empty, "truncated"),
    "a photo": (jpeg, "not_a_slide"),
    "a vendor's file cut off": (truncated_vendor, "truncated"),
    "a DICOM file cut off": (truncated_dicom, "truncated"),
    "another DICOM object": (other_dicom, "not_wsi_dicom"),
    "absurd dimensions": (absurd, "absurd_dimensions"),
    "a zip bomb": (bomb, "zip_bomb"),
    "a path that leaves the archive": (escaping, "unsafe_path"),
    "a symbolic link": (link, "unsafe_path"),
    "a broken archive": (broken_zip, "bad_archive"),
    "two patients in one series": (mixed_patients, "mixed_patients"),
    "nothing but clutter": (directory_only, "nothing_found"),
}


@pytest.mark.parametrize("case", TABLE)
def test_bad_input_is_refused_by_name(api, page, tmp_path, data_dir, case):
    make, code = TABLE[case]
    made = tmp_path / "made"
    made.mkdir()
    upload = send(api, make(made), accession_number="S26-1", mrn="MRN-1")
    assert upload["state"] == "finished"
    assert {(item["state"], item["reason_code"]) for item in upload["items"]} == {("refused", code)}
    assert all(item["reason"] for item in upload["items"])
    shown = page.get(f"/uploads/{upload['id']}/")
    assert shown.status_code == 200
    for item in upload["items"]:
        assert f"<code>{code}</code>" in shown.content.decode()
        assert item["name"] in shown.content.decode()
    assert not SlideImage.objects.exists()
    assert not Case.objects.exists()
    for folder in ("slides", "spool", "work", "unmatched", "thumbnails"):
        assert stored(data_dir, folder) == set(), folder
    assert not (tmp_path / "slides").exists()


@pytest.mark.shared_data
def test_the_broken_svs(api, page, shared_data):
    upload = send(api, shared_data / "slides/edge/broken.svs")
    (item,) = upload["items"]
    assert (item["state"], item["reason_code"]) == ("refused", "corrupt")
    assert "<code>corrupt</code>" in page.get(f"/uploads/{upload['id']}/").content.decode()
