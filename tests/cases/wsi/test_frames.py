"""Frame offsets and metadata: what is read from the file is what pydicom reads by decoding it."""

import gzip
import io
import json
import uuid

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.sequence import Sequence

from cases.wsi import splice, uids
from cases.wsi.errors import CorruptError, TruncatedError
from cases.wsi.frames import FrameTable, read_frame_table
from cases.wsi.metadata import bulk_value, dataset_json, list_gzip, list_text, metadata_parts
from tests.synthetic_slide import picture, write_dicom_slide

PATH = "/studies/1/series/2/instances/3"


def frames_of(path, table: FrameTable) -> list[bytes]:
    data = path.read_bytes()
    return [
        b"".join(data[offset : offset + length] for offset, length in table.spans(number))
        for number in range(1, table.frame_count + 1)
    ]


def expected_frames(path) -> list[bytes]:
    dataset = pydicom.dcmread(path)
    count = int(dataset.NumberOfFrames)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        extended = None
        if "ExtendedOffsetTable" in dataset:
            extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        return list(
            generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=extended)
        )
    size = len(dataset.PixelData) // count
    return [dataset.PixelData[n * size : (n + 1) * size] for n in range(count)]


def _rewrap(dataset: Dataset, *, fragments: int, kind: str) -> None:
    """Write the frames of a dataset again in several fragments, with or without offsets."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    frames = list(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames))
    if kind == "extended":
        data, offsets, lengths = encapsulate_extended(frames)
        dataset.PixelData = data
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    else:
        dataset.PixelData = encapsulate(
            frames, fragments_per_frame=fragments, has_bot=kind == "basic"
        )
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


@pytest.mark.parametrize(
    ("jpeg", "fragments", "kind"),
    [
        (False, 1, ""),
        (True, 1, "none"),
        (True, 1, "basic"),
        (True, 3, "none"),
        (True, 3, "basic"),
        (True, 1, "extended"),
    ],
)
def test_every_frame_is_where_the_table_says(tmp_path, jpeg, fragments, kind):
    folder = write_dicom_slide(
        tmp_path / "s",
        rgb=picture(600, 520),
        levels=2,
        jpeg=jpeg,
        change=lambda _n, dataset: _rewrap(dataset, fragments=fragments, kind=kind),
    )
    for path in sorted(folder.iterdir()):
        _header, table = read_frame_table(path)
        expected = expected_frames(path)
        assert frames_of(path, table) == expected
        again = FrameTable.unpack(table.pack())
        assert frames_of(path, again) == expected
        assert again.total_bytes == sum(map(len, expected))
        for missing in (0, table.frame_count + 1):
            with pytest.raises(IndexError):
                again.spans(missing)


def test_fragments_that_cannot_be_told_apart_are_refused_by_name(tmp_path):
    def change(_number, dataset):
        frames = [b"\1\2" * 50 for _ in range(dataset.NumberOfFrames)]
        dataset.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=False)

    folder = write_dicom_slide(tmp_path / "s", rgb=picture(600, 520), levels=1, change=change)
    with pytest.raises(CorruptError):
        read_frame_table(folder / "level-0.dcm")


def test_a_cut_file_is_refused_by_name(tmp_path):
    path = write_dicom_slide(tmp_path / "s", rgb=picture(600, 520), levels=1) / "level-0.dcm"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(TruncatedError):
        read_frame_table(path)


# A busy machine is slow to invent inputs; that says nothing of the code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)


@unhurried
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=3000)), max_size=8))
def test_spliced_gzip_is_the_texts_one_after_the_other(pieces):
    parts = [(splice.stored if plain else splice.compressed)(text) for plain, text in pieces]
    kept = splice.unpack(splice.pack(parts))
    # One member only, checksum and length included.
    with gzip.GzipFile(fileobj=io.BytesIO(splice.gzip_of(kept))) as file:
        assert file.read() == b"".join(text for _plain, text in pieces)


def _bulky(_number: int, dataset: Dataset) -> None:
    dataset.OpticalPathSequence[0].ICCProfile = bytes(range(256)) * 8
    dataset.PatientName = "Müller^Zoë"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    item = Dataset()
    item.add_new(0x00091001, "OB", b"\1\2\3\4")
    item.add_new(0x00720074, "FD", [float("nan"), float("inf"), 1.5])
    dataset.add_new(0x00090010, "LO", "ACME")
    dataset.add_new(0x00091002, "SQ", Sequence([item]))


def test_metadata_is_the_dicom_json_model_with_bulk_data_by_address(tmp_path):
    folder = write_dicom_slide(tmp_path / "s", rgb=picture(300, 300), levels=1, change=_bulky)
    header, _table = read_frame_table(folder / "level-0.dcm")
    packed = metadata_parts(header, PATH)
    base = "https://here/dicomweb"
    zipped, text = list_gzip([packed, packed], base), list_text([packed, packed], base)
    assert gzip.decompress(zipped) == text
    first, second = json.loads(text)
    assert first == second
    assert first["00100010"]["Value"] == [{"Alphabetic": "Müller^Zoë"}]
    assert first["00080005"]["Value"] == ["ISO_IR 192"]
    assert first["00083002"]["Value"] == ["1.2.840.10008.1.2.4.50"]
    assert first["00091002"]["Value"][0]["00720074"]["Value"] == ["NaN", "inf", 1.5]
    assert first["7FE00010"]["BulkDataURI"] == f"{base}{PATH}/bulkdata/7FE00010"
    icc = first["00480105"]["Value"][0]["00282000"]["BulkDataURI"]
    assert icc == f"{base}{PATH}/bulkdata/00480105/0/00282000"
    assert not any(key.startswith("0002") for key in first)
    again = Dataset.from_json(
        json.dumps({k: v for k, v in first.items() if k not in ("7FE00010", "00480105")})
    )
    assert again.TotalPixelMatrixColumns == 300
    header, _table = read_frame_table(folder / "level-0.dcm")
    assert bulk_value(header, "00480105/0/00282000") == bytes(range(256)) * 8
    long = f"00480105/{'1' * 5000}/00282000"  # no number that Python reads
    known = "00480105"
    for wrong in ("7FE00010", f"{known}/1/00282000", known, f"{known}/0/x", "0048010G", "", long):
        with pytest.raises(KeyError):
            bulk_value(header, wrong)


def test_a_value_that_is_not_of_its_vr_is_kept_as_bytes():
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    raw = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(0x00280030), "DS", 8, b"nonsense", 0, False, True
    )
    dataset[0x00280030] = raw
    told = dataset_json(dataset, PATH)["00280030"]
    assert told == {"vr": "UN", "InlineBinary": "bm9uc2Vuc2U="}


@unhurried
@given(st.uuids(version=4), st.integers(1, 255))
def test_virtual_uids_lead_back_to_their_row(key, number):
    assert uids.uuid_of(uids.uid_of(key)) == key
    uid = uids.instance_uid(key, number)
    assert len(uid) <= 64
    assert key in uids.slide_images_of_instance(uid)
    assert uid != uids.uid_of(key)
    others = {uids.instance_uid(key, n) for n in range(1, 256)}
    assert len(others) == 255


@pytest.mark.parametrize("uid", ["", "1.2.3", "2.25.", "2.25.01", "2.25.x", f"2.25.{2**128}"])
def test_other_uids_lead_nowhere(uid):
    assert uids.uuid_of(uid) is None
    assert uids.slide_images_of_instance(uid) == []
    assert uids.slide_images_of_instance(uids.uid_of(uuid.uuid4())) == []
