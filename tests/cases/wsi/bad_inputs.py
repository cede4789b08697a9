"""Deliveries that must be refused: name -> (maker of files in a folder, expected code).

Shared by the tests of the pure examination and of the intake around it.
"""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from tests.synthetic_slide import make_uid, picture, write_dicom_slide, write_tiff_slide

Maker = Callable[[Path], object]


def _change(folder: Path, change: Callable[[int, Dataset], None], **options: object) -> None:
    write_dicom_slide(folder / "slide", change=change, **options)


def _cut(file: Path, share: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])


def text(folder: Path) -> None:
    (folder / "notes.txt").write_text("Nothing to see here")


def photo(folder: Path) -> None:
    Image.fromarray(picture(300, 200)).save(folder / "photo.png")


def empty(folder: Path) -> None:
    (folder / "empty.svs").touch()


def garbage_named_slide(folder: Path) -> None:
    (folder / "broken.svs").write_bytes(bytes(np.random.default_rng(0).bytes(1000)))


def untiled_tiff(folder: Path) -> None:
    tifffile.imwrite(folder / "scan.tiff", picture(300, 200), photometric="rgb")


def mrxs_alone(folder: Path) -> None:
    Image.fromarray(picture(100, 100)).save(folder / "slide.mrxs", "JPEG")


def mrxs_broken(folder: Path) -> None:
    mrxs_alone(folder)
    (folder / "slide").mkdir()
    (folder / "slide" / "Slidedat.ini").write_text("[GENERAL]\nSLIDE_ID = 1\n")


def cut_tiff(share: float) -> Maker:
    def make(folder: Path) -> None:
        _cut(write_tiff_slide(folder / "slide.tiff"), share)

    return make


def _overwrite_tag(file: Path, name: str, value: int) -> None:
    """Put a whole number in place of a tag's value in every directory."""
    data = bytearray(file.read_bytes())
    with tifffile.TiffFile(file) as tiff:
        for page in tiff.pages:
            entry = page.tags[name].offset
            struct.pack_into("<HII", data, entry + 2, 4, 1, value)
    file.write_bytes(bytes(data))


def damaged_tiles(folder: Path) -> None:
    """Whole by its directories; its tiles are said to be JPEG, and are not."""
    _overwrite_tag(write_tiff_slide(folder / "slide.tiff"), "Compression", 7)


def huge_tiff(folder: Path) -> None:
    """Claims 4,000,000 columns; most of its tiles are there only in name."""
    _overwrite_tag(write_tiff_slide(folder / "slide.tiff"), "ImageWidth", 4_000_000)


def cut_dicom(share: float) -> Maker:
    def make(folder: Path) -> None:
        _cut(write_dicom_slide(folder / "slide") / "level-0.dcm", share)

    return make


def cut_raw_dicom(folder: Path) -> None:
    _cut(write_dicom_slide(folder / "slide", jpeg=False) / "level-1.dcm", 0.9)


def frames_missing(folder: Path) -> None:
    def drop(number: int, dataset: Dataset) -> None:
        if number == 0:
            dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"] * 3)

    _change(folder, drop)


def too_few_frames(folder: Path) -> None:
    def lie(number: int, dataset: Dataset) -> None:
        if number == 0:
            dataset.NumberOfFrames = 3

    _change(folder, lie)


def frames_of_noise(folder: Path) -> None:
    def spoil(number: int, dataset: Dataset) -> None:
        if number == 1:
            noise = np.random.default_rng(1)
            dataset.PixelData = encapsulate(
                [noise.bytes(900) for _ in range(int(dataset.NumberOfFrames))]
            )

    _change(folder, spoil)


def not_microscopy(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")

    _change(folder, change, levels=1)


def video_syntax(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.102")

    _change(folder, change)


def private_syntax(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.113619.5.2")

    write_dicom_slide(folder / "slide", levels=1, jpeg=False)
    file = folder / "slide" / "level-0.dcm"
    known = b"1.2.840.10008.1.2.1\x00"
    file.write_bytes(file.read_bytes().replace(known, b"1.2.840.113619.5.2.9"))


def deflated(folder: Path) -> None:
    write_dicom_slide(folder / "slide", levels=1, jpeg=False)
    file = folder / "slide" / "level-0.dcm"
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(file)


def two_patients(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.PatientID = f"MRN-{number}"

    _change(folder, change)


def two_names_without_ids(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.PatientID, dataset.PatientName = "", f"Name{number}^A"

    _change(folder, change)


def two_accessions(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.AccessionNumber = f"S-{number}"

    _change(folder, change)


def same_uid_other_bytes(folder: Path) -> None:
    write_dicom_slide(folder / "a", levels=1)
    write_dicom_slide(folder / "b", levels=1, objective_power=40)


def same_uid_in_two_series(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.SOPInstanceUID = make_uid("shared", number)

    write_dicom_slide(folder / "a", levels=1, series_uid=make_uid("one"), change=change)
    write_dicom_slide(folder / "b", levels=1, series_uid=make_uid("two"), change=change)


def absurd_size(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.TotalPixelMatrixColumns = 4_000_000_000

    _change(folder, change)


def no_size(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.TotalPixelMatrixRows = 0

    _change(folder, change)


def spacing_in_micrometres(folder: Path) -> None:
    write_dicom_slide(folder / "slide", mpp=5000.0)


def missing_attributes(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        del dataset.TotalPixelMatrixColumns

    _change(folder, change)


def label_only(folder: Path) -> None:
    write_dicom_slide(folder / "slide", label=True)
    for file in (folder / "slide").glob("level*"):
        file.unlink()


def two_areas(folder: Path) -> None:
    write_dicom_slide(folder / "a", levels=1, series_uid=make_uid("one series"))
    write_dicom_slide(
        folder / "b", levels=1, rgb=picture(700, 900), series_uid=make_uid("one series"),
        study_uid=make_uid("study", 0, "S26-1", "MRN-1", (768, 1024, 3)),
        change=lambda number, dataset: setattr(dataset, "SOPInstanceUID", make_uid("other")),
    )  # fmt: skip


def part_of_concatenation(folder: Path) -> None:
    def change(number: int, dataset: Dataset) -> None:
        dataset.ConcatenationUID = make_uid("concatenation")
        dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = 1, 2
        dataset.ConcatenationFrameOffsetNumber = 0
        dataset.SOPInstanceUIDOfConcatenationSource = make_uid("source")

    _change(folder, change, levels=1)


def zip_with(name: str, data: bytes) -> Maker:
    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / "slides.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)

    return make


def disguised_zip_in_zip(folder: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x.svs", b"x")
    zip_with("slide.svs", inner.getvalue())(folder)


def other_archive(folder: Path) -> None:
    (folder / "slides.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + b"\0" * 40)


def tarball(folder: Path) -> None:
    write_tiff_slide(folder / "in" / "slide.tiff", levels=1)
    shutil.make_archive(str(folder / "slides"), "gztar", folder / "in")
    shutil.rmtree(folder / "in")


BAD_INPUTS: dict[str, tuple[Maker, str]] = {
    "text": (text, "not_a_slide"),
    "photo": (photo, "not_a_slide"),
    "empty file": (empty, "truncated"),
    "garbage named .svs": (garbage_named_slide, "corrupt"),
    "TIFF without tiles": (untiled_tiff, "not_a_slide"),
    "MIRAX without its folder": (mrxs_alone, "missing_files"),
    "MIRAX with a broken folder": (mrxs_broken, "corrupt"),
    "TIFF cut early": (cut_tiff(0.1), "truncated"),
    "TIFF cut in the middle": (cut_tiff(0.6), "truncated"),
    "TIFF cut at the end": (cut_tiff(0.9999), "truncated"),
    "TIFF with damaged tiles": (damaged_tiles, "corrupt"),
    "TIFF of absurd size": (huge_tiff, "absurd_dimensions"),
    "DICOM cut in its header": (cut_dicom(0.005), "truncated"),
    "DICOM cut in a frame": (cut_dicom(0.5), "truncated"),
    "DICOM cut in its last bytes": (cut_dicom(0.99999), "truncated"),
    "raw DICOM cut": (cut_raw_dicom, "truncated"),
    "DICOM with frames missing": (frames_missing, "truncated"),
    "DICOM with too few frames": (too_few_frames, "corrupt"),
    "DICOM with noise for frames": (frames_of_noise, "corrupt"),
    "DICOM of another kind": (not_microscopy, "not_wsi_dicom"),
    "DICOM video": (video_syntax, "unsupported_transfer_syntax"),
    "DICOM of a private syntax": (private_syntax, "unsupported_transfer_syntax"),
    "deflated DICOM": (deflated, "unsupported_transfer_syntax"),
    "two patients": (two_patients, "mixed_patients"),
    "two names without numbers": (two_names_without_ids, "mixed_patients"),
    "two accessions": (two_accessions, "conflicting_instances"),
    "same UID, other bytes": (same_uid_other_bytes, "conflicting_instances"),
    "same UID in two series": (same_uid_in_two_series, "conflicting_instances"),
    "DICOM of absurd size": (absurd_size, "absurd_dimensions"),
    "DICOM without pixels": (no_size, "absurd_dimensions"),
    "DICOM spacing in micrometres": (spacing_in_micrometres, "absurd_dimensions"),
    "DICOM without its size": (missing_attributes, "corrupt"),
    "label without a slide": (label_only, "no_volume_image"),
    "two areas of tissue": (two_areas, "unsupported_image"),
    "part of a concatenation": (part_of_concatenation, "missing_files"),
    "zip bomb": (zip_with("a.svs", b"\0" * 30_000_000), "zip_bomb"),
    "zip with ..": (zip_with("../../a.svs", b"x"), "unsafe_path"),
    "zip in zip": (zip_with("inner.zip", b"PK\x03\x04"), "nested_archive"),
    "disguised zip in zip": (disguised_zip_in_zip, "nested_archive"),
    "zip with a text": (zip_with("readme.txt", b"hello"), "not_a_slide"),
    "7z": (other_archive, "bad_archive"),
    "tar.gz": (tarball, "bad_archive"),
}
