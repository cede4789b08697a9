"""The re-scan finds what it is there for: each planted leak, wherever it is put."""

import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cases.wsi.deidentify import (
    Identifiers,
    LeakError,
    ProjectKey,
    Pseudonyms,
    Subject,
    export_file,
    is_exported,
    read_source,
    scan_file,
    scan_words,
)
from tests.cases.exports.planted import NAME, TEXT, UID, write_planted_slide

KEY = ProjectKey(b"k" * 32)
SUBJECT = Subject("issuer\0MRN-1", "lis\0S26-1", "SLIDE-1", "A")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the exported file's bytes, what must not be in it, and what may."""
    folder = write_planted_slide(tmp_path_factory.mktemp("slide") / "slide")
    source = read_source(folder / "level-2.dcm")
    identifiers = Identifiers()
    identifiers.add_header(source.header)
    names = Pseudonyms(KEY, SUBJECT)
    target = folder.parent / "out.dcm"
    export_file(folder / "level-2.dcm", target, names, instance_number=1)
    scan_file(target, identifiers, names.issued)
    return target.read_bytes(), identifiers, names.issued


def scan(tmp_path, exported, change) -> str:
    """Return where the scan finds the change; `change` takes and returns bytes."""
    data, identifiers, issued = exported
    file = tmp_path / "leaky.dcm"
    file.write_bytes(change(data))
    with pytest.raises(LeakError) as caught:
        scan_file(file, identifiers, issued)
    assert NAME not in caught.value.message  # named by its place, never by its value
    return caught.value.place


def with_dataset(change):
    """Return a change of bytes that changes the dataset."""

    def _change(data: bytes) -> bytes:
        buffer = pydicom.filebase.DicomBytesIO(data)
        dataset = pydicom.dcmread(buffer)
        change(dataset)
        out = pydicom.filebase.DicomBytesIO()
        dataset.save_as(out, enforce_file_format=True)
        return out.getvalue()

    return _change


def _set(keyword, value):
    return with_dataset(lambda dataset: setattr(dataset, keyword, value))


def _inside(path, keyword, value):
    def change(dataset: Dataset) -> None:
        item = dataset
        for name in path:
            item = item[name].value[0]
        setattr(item, keyword, value)

    return with_dataset(change)


def _private(dataset: Dataset) -> None:
    dataset.private_block(0x0011, "X", create=True).add_new(1, "LO", "harmless")


CHANGES = {
    "a name": (_set("PatientName", NAME), "PatientName"),
    "an attribute of the source": (_set("PatientComments", "nothing"), "PatientComments"),
    "a birth date": (_set("PatientBirthDate", "19430817"), "PatientBirthDate"),
    "a UID of the source": (_set("FrameOfReferenceUID", UID), "FrameOfReferenceUID"),
    "a UID of nobody": (_set("FrameOfReferenceUID", "2.25.1"), "FrameOfReferenceUID"),
    "a date that was not moved": (_set("ContentDate", "20260102"), "ContentDate"),
    "a time": (_set("ContentTime", "030405"), "ContentTime"),
    "a number in place of a pseudonym": (_set("AccessionNumber", "S26-1"), "AccessionNumber"),
    "an unknown maker": (_set("Manufacturer", NAME), "Manufacturer"),
    "a private tag": (with_dataset(_private), "(0011,0010)"),
    "a name in a sequence": (
        _inside(["SpecimenDescriptionSequence"], "SpecimenIdentifier", NAME),
        "SpecimenDescriptionSequence > SpecimenIdentifier",
    ),
    "a lying code": (
        _inside(
            ["SpecimenDescriptionSequence", "PrimaryAnatomicStructureSequence"],
            "CodeMeaning",
            NAME,
        ),
        "SpecimenDescriptionSequence > PrimaryAnatomicStructureSequence",
    ),
    "a step's text": (
        _inside(
            [
                "SpecimenDescriptionSequence",
                "SpecimenPreparationSequence",
                "SpecimenPreparationStepContentItemSequence",
            ],
            "TextValue",
            TEXT,
        ),
        "SpecimenDescriptionSequence > SpecimenPreparationSequence",
    ),
    "a foreign sequence": (
        _set("RequestAttributesSequence", Sequence([Dataset()])),
        "RequestAttributesSequence",
    ),
    "a colour profile with text": (
        _inside(["OpticalPathSequence"], "ICCProfile", b"acsp" * 50),
        "OpticalPathSequence > ICCProfile",
    ),
    "a preamble": (lambda data: b"x" * 128 + data[128:], "preamble"),
    "bytes after the end": (lambda data: data + b"\0\0", "bytes after the pixel data"),
    "an implementation name": (
        lambda data: data.replace(b"PATHSEARCH_EXPOR", b"QUIXADELBAUMxxxx"),
        "file meta information",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_planted_leak_is_found(tmp_path, exported, name):
    change, place = CHANGES[name]
    assert scan(tmp_path, exported, change) == place


def test_a_comment_in_a_frame_is_found_though_it_names_nobody(tmp_path, exported):
    comment = b"\xff\xfe" + struct.pack(">H", 8) + b"abcdef"

    def change(data: bytes) -> bytes:
        at = data.index(b"\xff\xd8\xff")
        length = struct.unpack_from("<I", data, at - 4)[0]
        grown = struct.pack("<I", length + len(comment))
        return data[: at - 4] + grown + data[at : at + 2] + comment + data[at + 2 :]

    assert scan(tmp_path, exported, change) == "frame 1"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("case", [str.lower, str.upper, str])
def test_a_name_among_the_pixels_is_found_in_any_encoding_and_case(
    tmp_path, exported, encoding, case
):
    """In entropy-coded data no structure can tell, so the bytes are searched."""
    secret = case(NAME).encode(encoding)

    def change(data: bytes) -> bytes:
        at = data.rindex(b"\xff\xd9") - len(secret) - 40
        return data[:at] + secret + data[at + len(secret) :]

    assert scan(tmp_path, exported, change) in ("bytes of the pixel data", "frame 4")


@pytest.mark.shared_data
def test_real_series_of_several_makers_go_out_clean_with_their_frames(shared_data, tmp_path):
    count = 0
    for file in sorted((shared_data / "slides" / "dicom").rglob("*.dcm")):
        source = read_source(file)
        if not is_exported(source.header):
            continue
        identifiers = Identifiers()
        identifiers.add_header(source.header)
        names = Pseudonyms(KEY, SUBJECT)
        written = export_file(file, tmp_path / "out.dcm", names, instance_number=1)
        scan_file(tmp_path / "out.dcm", identifiers, names.issued)
        again = read_source(tmp_path / "out.dcm")
        pairs = zip(source.frames(), again.frames(), strict=True)
        assert all(one.rstrip(b"\0") == two.rstrip(b"\0") for one, two in pairs), file.name
        assert written.frames_changed == 0
        count += 1
    assert count >= 18


@pytest.mark.parametrize("jpeg", [True, False])
def test_large_images_carry_the_extended_offset_table(tmp_path, monkeypatch, jpeg):
    """What is written beyond 4 GiB, where the basic table ends; here for a small one."""
    monkeypatch.setattr("cases.wsi.deidentify.write._BASIC_TABLE_MAX", 0)
    folder = write_planted_slide(tmp_path / "slide", jpeg=jpeg)
    source = read_source(folder / "level-0.dcm")
    identifiers = Identifiers()
    identifiers.add_header(source.header)
    names = Pseudonyms(KEY, SUBJECT)
    target = tmp_path / "out.dcm"
    export_file(folder / "level-0.dcm", target, names, instance_number=1)
    scan_file(target, identifiers, names.issued)
    again = read_source(target)
    assert ("ExtendedOffsetTable" in again.header) is jpeg
    assert len(list(again.frames())) == again.frame_count == 12
    if jpeg:
        whole = target.read_bytes()
        begin = whole.index(b"\xe0\x7f\x10\x00OB") + 12 + 8  # tag, VR, length; empty basic table
        offsets = np.frombuffer(again.header.ExtendedOffsetTable, "<u8")
        lengths = np.frombuffer(again.header.ExtendedOffsetTableLengths, "<u8")
        for offset, length, frame in zip(offsets, lengths, again.frames(), strict=True):
            at = begin + int(offset) + 8
            assert (
                whole[at : at + int(length)] == frame.rstrip(b"\0")
                or whole[at : at + int(length)] == frame
            )


def test_a_name_across_two_pieces_is_found(tmp_path, exported, monkeypatch):
    monkeypatch.setattr("cases.wsi.deidentify.scan._CHUNK", 64)
    secret = NAME.encode()

    def change(data: bytes) -> bytes:
        at = data.rindex(b"\xff\xd9") - len(secret) - 40
        return data[:at] + secret + data[at + len(secret) :]

    assert scan(tmp_path, exported, change) == "bytes of the pixel data"


def test_a_pseudonym_that_is_an_original_is_found(tmp_path, exported):
    data, _identifiers, issued = exported
    identifiers = Identifiers()
    identifiers.add(next(value for value in issued if value.startswith("P")))
    file = tmp_path / "file.dcm"
    file.write_bytes(data)
    with pytest.raises(LeakError):
        scan_file(file, identifiers, issued)


def test_a_manifest_with_anything_unexpected_is_found():
    identifiers = Identifiers()
    identifiers.add(NAME, "Quixadelbaum-7731995")
    allowed = {"patient", "PAAAAAAAAAAAA", "Quixadelbaum-7731995"}
    scan_words(["patient", "PAAAAAAAAAAAA"], "manifest", identifiers, allowed)
    for value in (NAME.upper(), "anything", "Quixadelbaum-7731995"):
        with pytest.raises(LeakError):
            scan_words(["patient", value], "manifest", identifiers, allowed)


def test_a_patient_whose_name_is_a_word_of_the_standard_is_no_leak(tmp_path, exported):
    """White is a colour of light in the header; the export of Mr White does not fail."""
    data, _identifiers, issued = exported
    identifiers = Identifiers()
    identifiers.add("Lung", "White", "Brightfield illumination", always=True)
    file = tmp_path / "file.dcm"
    file.write_bytes(data)
    scan_file(file, identifiers, issued)
