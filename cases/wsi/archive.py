"""Unpack a zip archive that nobody vouches for.

Sizes are counted while writing, never believed; paths are checked before anything is
written; an archive that breaks a rule leaves nothing behind.
"""

from __future__ import annotations

import errno
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cases.wsi.delivery import Limits
from cases.wsi.errors import (
    BadArchiveError,
    EncryptedArchiveError,
    NestedArchiveError,
    NoDiskSpaceError,
    NotASlideError,
    TooManyFilesError,
    UnsafePathError,
    WsiError,
    ZipBombError,
)

CHUNK_BYTES = 1 << 20
RATIO_FLOOR_BYTES = 1 << 20
"""Smaller outputs do no harm at any ratio; text files of DICOM exports compress well."""

MAX_NAME_BYTES = 200
MAX_DEPTH = 12
ARCHIVE_SUFFIXES = frozenset((".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst"))
MAGIC = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_DRIVE = re.compile(r"^[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Entry:
    """A file in an archive: its checked relative path and zipfile's record."""

    path: PurePosixPath
    info: zipfile.ZipInfo


@dataclass(frozen=True)
class Unpacked:
    """What came out: (bytes, files), and archives inside, which are left where they are."""

    size_bytes: int
    file_count: int
    nested: tuple[tuple[str, NestedArchiveError], ...]


def archive_kind(path: Path) -> str:
    """Return `zip`, `7z`, `rar` ... by content, `tar` also by name, or an empty text."""
    with path.open("rb") as file:
        begin = file.read(265)
    for magic, kind in MAGIC.items():
        if begin.startswith(magic):
            return kind
    return "tar" if begin[257:262] == b"ustar" else ""


def safe_path(name: str) -> PurePosixPath:
    """Return the entry's relative path.

    Raises
    ------
    UnsafePathError
        For absolute paths, drive letters, `..`, control or direction-changing characters,
        and names too long or too deep for a file system.
    """
    plain = name.replace("\\", "/")
    if plain.startswith("/") or _DRIVE.match(plain):
        raise UnsafePathError("The archive holds an entry with an absolute path.")
    if _CONTROL.search(plain):
        raise UnsafePathError("The archive holds an entry with control characters in its name.")
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise UnsafePathError("The archive holds an entry that points outside the archive.")
    if len(parts) > MAX_DEPTH or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise UnsafePathError("The archive holds an entry whose name is too long or too deep.")
    if any(part != part.rstrip(" .") or part != part.lstrip(" ") for part in parts):
        parts = [part.strip(" ").rstrip(".") or "_" for part in parts]
    return PurePosixPath(*parts)


def unpack_zip(
    archive: Path,
    target: Path,
    limits: Limits,
    *,
    used_bytes: int = 0,
    used_files: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Unpacked:
    """Unpack an archive into a folder that does not exist yet.

    Parameters
    ----------
    archive, target
        The zip, and the folder to make.
    limits
        What the whole delivery may hold; `used_bytes` and `used_files` are gone already.
    tick
        Called now and then while bytes are written.

    Raises
    ------
    WsiError
        By name: `zip_bomb`, `too_many_files`, `unsafe_path`, `encrypted_archive`,
        `bad_archive`, `no_disk_space`. Nothing is left in `target` then.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries, nested = _plan(opened, archive, limits, used_bytes, used_files)
            target.mkdir(parents=True)
            allowance = limits.max_unpacked_bytes - used_bytes
            written = 0
            for entry in entries:
                written += _write(opened, entry, target, allowance - written, tick)
    except (WsiError, MemoryError):
        shutil.rmtree(target, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoDiskSpaceError from error
        raise BadArchiveError from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        UnicodeError,
    ) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise BadArchiveError from error
    if not entries and not nested:
        raise NotASlideError("The archive is empty.")
    return Unpacked(written, len(entries), nested)


def _plan(
    opened: zipfile.ZipFile, archive: Path, limits: Limits, used_bytes: int, used_files: int
) -> tuple[list[Entry], tuple[tuple[str, NestedArchiveError], ...]]:
    """Return the entries to write after every check that needs no bytes."""
    infos = opened.infolist()
    if used_files + len(infos) > limits.max_files:
        raise TooManyFilesError(f"The archive holds more than {limits.max_files} files.")
    declared = sum(info.file_size for info in infos)
    packed = max(1, archive.stat().st_size)
    if used_bytes + declared > limits.max_unpacked_bytes:
        raise ZipBombError
    if declared > RATIO_FLOOR_BYTES and declared / packed > limits.max_zip_ratio:
        raise ZipBombError
    if used_bytes + declared > limits.room_bytes:
        raise NoDiskSpaceError
    entries: list[Entry] = []
    nested: list[tuple[str, NestedArchiveError]] = []
    seen: set[str] = set()
    for info in infos:
        path = safe_path(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafePathError("The archive holds a link or a special file.")
        if info.is_dir():
            continue
        if info.flag_bits & 0x1:
            raise EncryptedArchiveError
        if str(path).casefold() in seen:
            raise UnsafePathError("The archive holds two entries of the same name.")
        seen.add(str(path).casefold())
        if path.suffix.lower() in ARCHIVE_SUFFIXES:
            nested.append((str(path), NestedArchiveError()))
        else:
            entries.append(Entry(path, info))
    if any(str(parent).casefold() in seen for entry in entries for parent in entry.path.parents):
        raise UnsafePathError("The archive holds a file and a folder of the same name.")
    return entries, tuple(nested)


def _write(
    opened: zipfile.ZipFile, entry: Entry, target: Path, allowance: int, tick: Callable[[], None]
) -> int:
    """Write one entry and return its size, which may not pass what it declared."""
    place = target / entry.path
    place.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with opened.open(entry.info) as source, place.open("xb") as out:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            if size > allowance or size > entry.info.file_size:
                raise ZipBombError
            out.write(chunk)
            if size % (64 * CHUNK_BYTES) == 0:
                tick()
    return size
