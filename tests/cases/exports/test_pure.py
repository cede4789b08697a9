"""Keys, vocabulary, frames and colour profiles of an export, each for itself."""

import io
import struct
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID

from cases.wsi.deidentify import ProjectKey, Pseudonyms, Subject
from cases.wsi.deidentify.frames import clean_frame
from cases.wsi.deidentify.icc import clean_profile, is_clean, srgb
from cases.wsi.deidentify.identifiers import ByteSearch
from cases.wsi.deidentify.vocabulary import concept_by_meaning, concept_of
from cases.wsi.errors import CorruptError, UnsupportedTransferSyntaxError
from tests.cases.exports.planted import profile, secrets_in

JPEG = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
ONE, TWO = ProjectKey(b"1" * 32), ProjectKey(b"2" * 32)


@given(st.text(min_size=1, max_size=64))
def test_uids_are_valid_stable_and_of_the_key(text):
    made = ONE.uid(text)
    assert UID(made).is_valid
    assert made == ONE.uid(text) != TWO.uid(text)


def test_pseudonyms_of_two_kinds_and_of_joined_parts_differ():
    assert ONE.name("a", "P", "bc", "d") != ONE.name("a", "P", "b", "cd")
    assert ONE.name("patient", "P", "1") != ONE.name("case", "P", "1")
    assert ONE.check() != TWO.check()
    with pytest.raises(ValueError, match="32 bytes"):
        ProjectKey(b"short")


def test_a_patients_dates_keep_their_distance_and_their_order():
    names = Pseudonyms(ONE, Subject("p", "c", "s", "t"))
    moved = [names.date(text) for text in ("20200101", "20200111", "2021.02.03", "no date", "")]
    days = [date(int(m[:4]), int(m[4:6]), int(m[6:])).toordinal() for m in moved[:3]]
    assert days[1] - days[0] == 10
    assert days[2] - days[0] == (date(2021, 2, 3) - date(2020, 1, 1)).days
    assert moved[3:] == ["", ""]
    assert -3650 <= names.shift.days <= -366
    other = Pseudonyms(ONE, Subject("q", "c", "s", "t"))
    assert other.shift != names.shift


def test_a_code_keeps_only_the_standards_own_meaning():
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "39607008", "SCT"
    item.CodeMeaning = "Jane Doe"
    assert concept_of(item).meaning == "Lung"
    item.CodeValue, item.CodingSchemeDesignator = "T-28000", "SRT"
    assert concept_of(item).value == "39607008"
    for value, scheme in (("4711", "SCT"), ("39607008", "99JANE"), ("", "")):
        item.CodeValue, item.CodingSchemeDesignator = value, scheme
        assert concept_of(item) is None
    assert concept_by_meaning("lung").value == "39607008"
    assert concept_by_meaning("Jane Doe") is None


def picture(form: str, **options) -> bytes:
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_plain_jpeg_stays_byte_for_byte(options):
    frame = picture("JPEG", **options)
    assert clean_frame(frame, JPEG) is frame
    assert clean_frame(frame + b"\0", JPEG) == frame + b"\0"  # the padding of DICOM


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_comments_exif_profiles_and_what_follows_the_end_are_taken_out(options):
    plain = picture("JPEG", **options)
    exif = Image.Exif()
    exif[0x010E] = "Quixadelbaum"
    full = picture("JPEG", exif=exif, comment=b"Quixadelbaum", icc_profile=profile(), **options)
    cleaned = clean_frame(full + b"Quixadelbaum", JPEG)
    assert secrets_in(full) != secrets_in(cleaned) == []
    assert np.array_equal(pixels(cleaned), pixels(full))
    assert cleaned == plain


def test_a_comment_between_two_scans_is_taken_out():
    plain = picture("JPEG", progressive=True)
    second = plain.index(b"\xff\xda", plain.index(b"\xff\xda") + 2)
    table = plain.rindex(b"\xff\xc4", 0, second) if b"\xff\xc4" in plain[:second] else second
    comment = b"\xff\xfe" + struct.pack(">H", 14) + b"Quixadelbaum"
    full = plain[:table] + comment + plain[table:]
    assert clean_frame(full, JPEG) == plain


def test_the_colour_of_an_adobe_jpeg_stays_told():
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (10, 200, 30, 0)).save(buffer, "JPEG")
    frame = buffer.getvalue()
    assert b"Adobe" in frame
    cleaned = clean_frame(frame, JPEG)
    assert b"Adobe" in cleaned
    assert np.array_equal(pixels(cleaned), pixels(frame))


def test_a_thumbnail_in_the_jfif_header_is_taken_out():
    plain = picture("JPEG")
    assert plain[2:4] == b"\xff\xe0"
    thumb = bytes(3 * 4)
    header = struct.pack(">H", 16 + len(thumb)) + plain[6:18] + b"\x02\x02"
    full = plain[:4] + header + thumb + plain[20:]
    assert np.array_equal(pixels(clean_frame(full, JPEG)), pixels(plain))
    assert clean_frame(full, JPEG) == plain


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8", b"no jpeg", b"\xff\xd8\xff\xe0\0\1"])
def test_what_is_no_frame_is_refused(damage):
    with pytest.raises(CorruptError):
        clean_frame(damage, JPEG)
    with pytest.raises(CorruptError):
        clean_frame(damage, JPEG_2000)


def test_a_codec_that_is_not_known_is_refused():
    with pytest.raises(UnsupportedTransferSyntaxError):
        clean_frame(b"MPEG", "1.2.840.10008.1.2.4.102")


def test_the_comment_of_a_jpeg_2000_is_taken_out():
    frame = picture("JPEG2000", no_jp2=True, comment="Quixadelbaum")
    cleaned = clean_frame(frame, JPEG_2000)
    assert secrets_in(frame) != secrets_in(cleaned) == []
    assert np.array_equal(pixels(cleaned), pixels(frame))
    assert clean_frame(cleaned, JPEG_2000) is cleaned


def test_a_comment_in_a_tile_part_is_taken_out():
    frame = clean_frame(picture("JPEG2000", no_jp2=True), JPEG_2000)
    at = frame.index(b"\xff\x90")
    (length,) = struct.unpack_from(">I", frame, at + 6)
    comment = b"\xff\x64" + struct.pack(">HH", 16, 1) + b"Quixadelbaum"
    start = frame[at : at + 6] + struct.pack(">I", length + len(comment)) + frame[at + 10 : at + 12]
    full = frame[:at] + start + comment + frame[at + 12 :]
    assert np.array_equal(pixels(full), pixels(frame))
    assert clean_frame(full, JPEG_2000) == frame


def test_a_profile_keeps_its_colours_and_none_of_its_texts():
    cleaned = clean_profile(profile())
    assert secrets_in(profile()) != secrets_in(cleaned) == []
    assert is_clean(cleaned)
    assert not is_clean(profile())
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8))
    from PIL import ImageCms

    lab = ImageCms.createProfile("LAB")
    before, after = (
        np.asarray(
            ImageCms.profileToProfile(
                rgb, ImageCms.ImageCmsProfile(io.BytesIO(data)), lab, outputMode="LAB"
            )
        )
        for data in (profile(), cleaned)
    )
    assert np.array_equal(before, after)


@pytest.mark.parametrize("broken", [b"", b"acsp", bytes(200), profile()[:300]])
def test_what_is_no_profile_becomes_srgb(broken):
    assert clean_profile(broken) == srgb()


@given(st.binary(max_size=400), st.binary(min_size=8, max_size=30), st.integers(0, 400))
def test_the_byte_search_finds_what_is_there_and_nothing_else(noise, wanted, at):
    search = ByteSearch([wanted.lower()])
    data = noise[:at] + wanted + noise[at:]
    assert search.found_in(data) == wanted.lower()
    if wanted.lower() not in noise.lower():
        assert search.found_in(noise) is None
