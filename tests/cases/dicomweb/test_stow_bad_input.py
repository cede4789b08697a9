"""Bad bodies and bad instances: each has a named answer, and nothing of it is stored."""

import gzip
import io
import struct
import zlib

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage

from cases.models import SlideUpload
from tests.cases.dicomweb.storing import (
    BOUNDARY,
    TYPE,
    body_of,
    failures,
    instances_of,
    send,
    store,
)
from tests.cases.intake.conftest import stored
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db


@pytest.fixture
def instance(slide) -> bytes:
    return (slide / "level-2.dcm").read_bytes()


def changed(instance: bytes, change) -> bytes:
    """Return the instance after a change of its dataset."""
    dataset = pydicom.dcmread(io.BytesIO(instance))
    change(dataset)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def deflate_bomb() -> bytes:
    """Return a deflated dataset that inflates to 2 GiB of zeros."""
    meta = Dataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(2**20)
    data = b"".join(packer.compress(zeros) for _ in range(2048)) + packer.flush()
    out = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(out, pydicom.dataset.FileMetaDataset(meta))
    return bytes(128) + b"DICM" + out.getvalue() + data


def deep(dataset: Dataset, depth: int = 3000) -> bytes:
    """Return bytes of one sequence in the other, of undefined length, that never end."""
    item = struct.pack("<HH2sHI", 0x0040, 0x0555, b"SQ", 0, 0xFFFFFFFF)
    return (item + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth


def nested(instance: bytes, depth: int) -> bytes:
    """Put an endless sequence before the pixel data."""
    position = instance.index(b"\xe0\x7f\x10\x00OB")
    return instance[:position] + deep(Dataset(), depth) + instance[position:]


BODIES = {
    "no body": (lambda b: b"\r\n", 400, "bad_multipart"),
    "no part": (lambda b: f"--{BOUNDARY}--\r\n".encode(), 400, "no_instances"),
    "truncated in a part": (lambda b: b[: len(b) // 2], 400, "truncated_body"),
    "truncated before the last boundary": (lambda b: b[:-20], 400, "truncated_body"),
    "truncated in a part's header": (lambda b: b[:20], 400, "truncated_body"),
    "another boundary": (lambda b: b.replace(BOUNDARY.encode(), b"other"), 400, "wrong_boundary"),
    "endless preamble": (lambda b: b"x" * 200_000 + b"\r\n" + b, 400, "wrong_boundary"),
    "endless header": (
        lambda b: f"--{BOUNDARY}\r\nA: ".encode() + b"x" * 100_000 + b,
        400,
        "bad_part_header",
    ),
    "header without a colon": (
        lambda b: f"--{BOUNDARY}\r\nnonsense\r\n\r\n".encode() + b,
        400,
        "bad_part_header",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_as_a_whole(scanner, slide, data_dir, name):
    make, status, code = BODIES[name]
    response = send(scanner, make(body_of(instances_of(slide))))
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert_nothing_stored(data_dir)


HEADERS = {
    "no content type": ({"type_": ""}, 415, "unsupported_media_type"),
    "JSON": ({"type_": "application/json"}, 415, "unsupported_media_type"),
    "a form": ({"type_": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type"),
    "another root": (
        {"type_": f'multipart/related; type="image/jpeg"; boundary={BOUNDARY}'},
        415,
        "unsupported_media_type",
    ),
    "no boundary": (
        {"type_": 'multipart/related; type="application/dicom"'},
        400,
        "wrong_boundary",
    ),
    "an unusable boundary": (
        {"type_": f'multipart/related; type="application/dicom"; boundary="{"x" * 257}"'},
        400,
        "wrong_boundary",
    ),
    "gzip": ({"Content-Encoding": "gzip"}, 415, "content_encoding_refused"),
    "deflate": ({"Content-Encoding": "deflate"}, 415, "content_encoding_refused"),
    "another Accept": ({"Accept": "text/html"}, 406, "not_acceptable"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_wrong_headers_are_refused(scanner, slide, data_dir, name):
    headers, status, code = HEADERS[name]
    body = body_of(instances_of(slide))
    if headers.get("Content-Encoding") == "gzip":
        body = gzip.compress(bytes(50 * 2**20))
    response = send(scanner, body, **headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert_nothing_stored(data_dir)


PARTS = {
    "a JPEG part": ("Content-Type: image/jpeg", 415, "unsupported_media_type"),
    "an encoded part": (
        "Content-Type: application/dicom\r\nContent-Encoding: gzip",
        415,
        "content_encoding_refused",
    ),
    "a part that claims less": (
        "Content-Type: application/dicom\r\nContent-Length: 10",
        400,
        "part_length_mismatch",
    ),
    "a part that claims more": (
        "Content-Type: application/dicom\r\nContent-Length: 999999999999",
        400,
        "part_length_mismatch",
    ),
    "a part without a number": (
        "Content-Type: application/dicom\r\nContent-Length: -1",
        400,
        "part_length_mismatch",
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_wrong_part_refuses_the_request(scanner, slide, data_dir, name):
    headers, status, code = PARTS[name]
    good, *rest = instances_of(slide)
    last = f"--{BOUNDARY}--\r\n".encode()
    body = body_of([good]).removesuffix(last) + body_of(rest, headers=headers)
    response = send(scanner, body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert_nothing_stored(data_dir)


def assert_nothing_stored(data_dir):
    assert SlideUpload.objects.count() == 0
    assert stored(data_dir, "spool") == set()


def setting(**values):
    """Return a change that sets attributes."""

    def change(dataset: Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return lambda instance: changed(instance, change)


def with_uid(text: bytes):
    """Return a change that puts these bytes in place of the SOP Instance UID's value."""

    def change(instance: bytes) -> bytes:
        uid = str(pydicom.dcmread(io.BytesIO(instance)).SOPInstanceUID).encode()
        head, tail = instance[:400], instance[400:]
        return head + tail.replace(uid, text.ljust(len(uid), b"1")[: len(uid)], 1)

    return change


INSTANCES = {
    "no DICOM": (lambda i: b"hello" * 100, 0xC000, "not_dicom"),
    "empty": (lambda i: b"", 0xC000, "not_dicom"),
    "cut in its header": (lambda i: i[:700], 0xC000, "truncated"),
    "cut in its pixels": (lambda i: i[:-100], 0xC000, "truncated"),
    "giant matrix": (
        setting(TotalPixelMatrixColumns=4_000_000_000, TotalPixelMatrixRows=4_000_000_000),
        0xA900,
        "absurd_dimensions",
    ),
    "giant frames": (setting(Rows=65535, Columns=65535), 0xA900, "absurd_dimensions"),
    "giant number of frames": (setting(NumberOfFrames=2_000_000_000), 0xC000, "truncated"),
    "sequences without end": (lambda i: nested(i, 3000), 0xC000, "corrupt"),
    "sequences without end, cut": (lambda i: nested(i, 300)[:9000], 0xC000, None),
    "UID with a path": (with_uid(b"../../etc/passwd"), 0xC000, "invalid_uid"),
    "UID with a null": (with_uid(b"1.2\x003/4"), 0xC000, "invalid_uid"),
    "unreadable transfer syntax": (
        lambda i: i.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.98", 1),
        0xC122,
        "unsupported_transfer_syntax",
    ),
    "deflate bomb": (lambda i: deflate_bomb(), 0xC122, "unsupported_transfer_syntax"),
    "another SOP class": (setting(SOPClassUID=CTImageStorage), 0x0122, "not_wsi_dicom"),
    "not SM": (setting(Modality="CT"), 0x0122, "not_wsi_dicom"),
    "a deep change": (
        lambda i: changed(
            i, lambda d: setattr(d, "SharedFunctionalGroupsSequence", Sequence([Dataset()] * 3))
        ),
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_a_bad_instance_is_named_and_the_good_one_is_stored(scanner, instance, data_dir, name):
    make, reason, code = INSTANCES[name]
    bad = make(instance)
    assert bad != instance
    alone = store(scanner, [bad])
    if reason is None:  # taken, or named: the intake's own matter
        assert alone.status_code in (200, 409)
        return
    assert alone.status_code == 409, alone.content
    ((found_reason, found_code),) = failures(alone.json())
    assert found_reason == reason
    assert code in (None, found_code)
    assert_nothing_stored(data_dir)
    both = store(scanner, [bad, instance])
    assert both.status_code == 202, both.content
    assert len(failures(both.json())) == 1
    assert SlideUpload.objects.get().files.count() == 1


def test_two_patients_in_one_study(scanner, tmp_path):
    one = write_dicom_slide(tmp_path / "1", seed=1, patient_id="M1", study_uid="1.2.3.4")
    two = write_dicom_slide(tmp_path / "2", seed=2, patient_id="M2", study_uid="1.2.3.4")
    response = store(scanner, [*instances_of(one), *instances_of(two)])
    assert response.status_code == 202
    assert set(failures(response.json())) == {(0xC410, "mixed_patients")}
    assert SlideUpload.objects.get().files.count() == 3
    # Also when the first came before.
    again = store(scanner, instances_of(two))
    assert again.status_code == 409
    assert set(failures(again.json())) == {(0xC410, "mixed_patients")}


def test_a_placeholder_is_no_other_patient(scanner, tmp_path):
    study = {"study_uid": "1.2.3.4", "levels": 1}
    for seed, patient_id in enumerate(("N/A", "M1", "undefined")):
        folder = write_dicom_slide(tmp_path / str(seed), seed=seed, patient_id=patient_id, **study)
        assert store(scanner, instances_of(folder)).status_code == 200


def test_a_full_disk_is_named_and_leaves_nothing(scanner, slide, data_dir, monkeypatch):
    from cases.errors import InsufficientStorage
    from cases.services import store as files

    def no_room(_bytes):
        raise InsufficientStorage

    monkeypatch.setattr(files, "require_free_space", no_room)
    response = store(scanner, instances_of(slide))
    assert (response.status_code, response.json()["code"]) == (507, "no_disk_space")
    assert_nothing_stored(data_dir)


def test_more_instances_than_one_request_may_hold(scanner, slide, data_dir, monkeypatch):
    from cases.services import uploads

    monkeypatch.setattr(uploads, "MAX_FILES", 2)
    response = store(scanner, instances_of(slide))
    assert (response.status_code, response.json()["code"]) == (413, "request_too_large")
    assert_nothing_stored(data_dir)


def test_types_are_compared_as_they_should_be(scanner, slide):
    quoted = TYPE.replace('"application/dicom"', "application/dicom").replace(
        BOUNDARY, f'"{BOUNDARY}"'
    )
    assert send(scanner, body_of(instances_of(slide)), type_=quoted).status_code == 200
