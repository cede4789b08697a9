"""Zip archives that want more than to be unpacked."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from cases.wsi.archive import safe_path, unpack_zip
from cases.wsi.delivery import Limits
from cases.wsi.errors import WsiError

SMALL = Limits(max_unpacked_bytes=20_000_000, max_files=50)


def zip_of(path: Path, entries: dict[str, bytes], *, packed: bool = True) -> Path:
    """Write a zip; names go in as they are."""
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return path


def test_ordinary_archive_with_folders_and_odd_names(tmp_path):
    archive = zip_of(
        tmp_path / "a.zip",
        {"Präparat 1/Slidedat.ini": b"x", "Präparat 1.mrxs": b"y", "win\\dows\\b.dcm": b"z"},
    )
    unpacked = unpack_zip(archive, tmp_path / "out", SMALL)
    assert (unpacked.file_count, unpacked.size_bytes) == (3, 3)
    assert (tmp_path / "out/Präparat 1/Slidedat.ini").read_bytes() == b"x"
    assert (tmp_path / "out/win/dows/b.dcm").read_bytes() == b"z"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "\\windows\\x",
        "../x",
        "a/../../x",
        "a\\..\\..\\x",
        "..",
        "C:/x",
        "c:x",
        "a/\x07b",
        "a\nb",
        "a\u202eb",
        "x" * 300,
        "/".join("a" * 20),
        "",
        "./.",
    ],
)
def test_unsafe_paths(name):
    with pytest.raises(WsiError) as refused:
        safe_path(name)
    assert refused.value.code == "unsafe_path"


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def with_link(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link(), "/etc/passwd")
        archive.writestr("link/x", "through the link")
    return path


def lying_about_size(path: Path) -> Path:
    """A small honest header before a megabyte: both directories say 10 bytes."""
    zip_of(path, {"a.svs": b"\0" * 1_000_000})
    data = path.read_bytes().replace(struct.pack("<I", 1_000_000), struct.pack("<I", 10))
    path.write_bytes(data)
    return path


def encrypted(path: Path) -> Path:
    zip_of(path, {"a.svs": b"secret"}, packed=False)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(bytes(data))
    return path


def bad_checksum(path: Path) -> Path:
    zip_of(path, {"a.svs": b"these bytes will change"}, packed=False)
    path.write_bytes(path.read_bytes().replace(b"will", b"have"))
    return path


def cut(path: Path) -> Path:
    zip_of(path, {"a.svs": bytes(range(256)) * 400})
    path.write_bytes(path.read_bytes()[:-40])
    return path


BAD = {
    "ratio": (lambda p: zip_of(p, {"a.svs": b"\0" * 5_000_000}), "zip_bomb"),
    "total": (lambda p: zip_of(p, {"a": b"x" * 21_000_000}, packed=False), "zip_bomb"),
    "count": (lambda p: zip_of(p, {f"f{n}": b"" for n in range(60)}), "too_many_files"),
    "lying size": (lying_about_size, "zip_bomb|bad_archive"),
    "dot dot": (lambda p: zip_of(p, {"ok.dcm": b"1", "../evil": b"2"}), "unsafe_path"),
    "absolute": (lambda p: zip_of(p, {"/tmp/evil": b"2"}), "unsafe_path"),
    "link": (with_link, "unsafe_path"),
    "same name": (lambda p: zip_of(p, {"a.dcm": b"1", "A.DCM": b"2"}), "unsafe_path"),
    "file and folder": (lambda p: zip_of(p, {"a": b"1", "a/b": b"2"}), "unsafe_path"),
    "encrypted": (encrypted, "encrypted_archive"),
    "checksum": (bad_checksum, "bad_archive"),
    "cut": (cut, "bad_archive"),
    "empty": (lambda p: zip_of(p, {}), "not_a_slide"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", BAD)
def test_bad_archives_are_refused_by_name_and_leave_nothing(tmp_path, name):
    make, codes = BAD[name]
    archive = make(tmp_path / "a.zip")
    with pytest.raises(WsiError) as refused:
        unpack_zip(archive, tmp_path / "out", SMALL)
    assert refused.value.code in codes.split("|")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"]


def test_archives_inside_are_named_and_not_unpacked(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("x", "y")
    outer = zip_of(tmp_path / "a.zip", {"in/b.zip": inner.getvalue(), "c.dcm": b"1"})
    unpacked = unpack_zip(outer, tmp_path / "out", SMALL)
    assert [(name, error.code) for name, error in unpacked.nested] == [
        ("in/b.zip", "nested_archive")
    ]
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["c.dcm"]


def test_what_other_archives_used_counts(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"a": b"x" * 1000}, packed=False)
    with pytest.raises(WsiError) as refused:
        unpack_zip(archive, tmp_path / "out", SMALL, used_bytes=19_999_500)
    assert refused.value.code == "zip_bomb"
