"""Find the slides in a folder of delivered files.

`examine` does it here. As a program (`python -m cases.wsi.examine`) it is the child process of
cases.wsi.sandbox: it takes its orders as JSON on standard input and writes one JSON line per
event to the file descriptor it was given, so that its parent knows what it died on.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from cases.wsi.archive import archive_kind, unpack_zip
from cases.wsi.delivery import Delivery, FoundInstance, FoundSlide, Limits, RefusedFile
from cases.wsi.dicom import Header, read_header, read_uids
from cases.wsi.errors import (
    BadArchiveError,
    ConflictingInstancesError,
    CorruptError,
    MissingFilesError,
    NestedArchiveError,
    NoVolumeError,
    ParseMemoryError,
    TooManyFilesError,
    WsiError,
)
from cases.wsi.reader import is_dicom
from cases.wsi.series import describe, require_one_image, require_whole, series_name
from cases.wsi.values import sha256_of_file
from cases.wsi.vendor import accompanying_files, examine_vendor_file
from cases.wsi.wsidicom_reader import WsiDicomReader

__all__ = [
    "Delivery",
    "FoundInstance",
    "FoundSlide",
    "Limits",
    "RefusedFile",
    "examine",
]

COMPANIONS = frozenset(
    (".ds_store", "thumbs.db", "desktop.ini", "dicomdir", "__macosx", ".directory")
)
"""Files and folders that systems add by themselves; no slides, and no reason to refuse."""

UNPACKED = ".unpacked"
"""Suffix of the folder that a zip is unpacked into, beside it."""

PARTIAL = ".unpacking"
"""Suffix of that folder while the child is at it."""

Report = Callable[[dict[str, Any]], None]


class Examination:
    """One walk over a delivery.

    Parameters
    ----------
    folder
        Holds the delivered files, and after the walk what their archives held.
    limits
        What the delivery may hold.
    report
        Called with each event: {"start": key, "name": ...} before a file that might break
        the process, {"slide": ...}, {"refused": ...}, {"tick": true} during long reads.
    skip
        Keys that an earlier walk has finished or died on.
    """

    def __init__(
        self, folder: Path, limits: Limits, report: Report, skip: Collection[str] = ()
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._report = report
        self._skip = frozenset(skip)
        self._unpacked_bytes = 0
        self._file_count = 0
        self._series: dict[str, list[str]] = defaultdict(list)
        self._series_of_instance: dict[str, set[str]] = defaultdict(set)

    def run(self) -> None:
        """Walk and report everything."""
        for leftover in self._folder.rglob(f"*{PARTIAL}"):
            shutil.rmtree(leftover, ignore_errors=True)
        files = self._files()
        self._file_count = len(files)
        if self._file_count > self._limits.max_files:
            error = TooManyFilesError(f"The delivery holds more than {self._limits.max_files}.")
            self._refuse("delivery", "delivery", error)
            return
        for file in files:
            if not _is_in_unpacked(file) and archive_kind(self._folder / file):
                self._guarded(_key(file), file, partial(self._unpack, file))
        vendors: list[str] = []
        for file in self._files():
            if archive_kind(self._folder / file):
                if _is_in_unpacked(file):
                    self._guarded(_key(file), file, _raise_nested)
            elif is_dicom(self._folder / file):
                self._guarded(f"header:{_key(file)}", file, partial(self._sort_in, file))
            else:
                vendors.append(file)
        self._attach_nameless()
        for uid, members in self._series.items():
            self._examine_dicom(uid, members)
        self._examine_vendors(vendors)

    def _files(self) -> list[str]:
        """Return all files, as sorted relative paths, without what systems add."""
        found = []
        for path in sorted(self._folder.rglob("*")):
            parts = path.relative_to(self._folder).parts
            is_companion = any(
                part.casefold() in COMPANIONS or part.startswith("._") for part in parts
            )
            if path.is_file() and not path.is_symlink() and not is_companion:
                found.append("/".join(parts))
        return found

    def _guarded(self, key: str, name: str, act: Callable[[], None]) -> None:
        """Do a thing of which a failure is the item's and not the delivery's."""
        if key in self._skip:
            return
        self._report({"start": key, "name": _shown(name)})
        try:
            act()
        except WsiError as error:
            self._refuse(key, name, error)
        except MemoryError:
            self._refuse(key, name, ParseMemoryError())
        except Exception as error:  # a reader may raise anything on a broken file
            sys.stderr.write(f"{type(error).__name__} while examining\n")
            self._refuse(key, name, CorruptError())

    def _refuse(self, key: str, name: str, error: WsiError) -> None:
        refused = RefusedFile(key, _shown(name), error.code, error.message)
        self._report({"refused": refused.to_json()})

    def _tick(self) -> None:
        self._report({"tick": True})

    def _unpack(self, file: str) -> None:
        archive = self._folder / file
        kind = archive_kind(archive)
        if kind != "zip":
            raise BadArchiveError(f"Archives of kind {kind} are not supported. Send a zip.")
        target = archive.with_name(archive.name + UNPACKED)
        if target.exists():
            return  # an earlier walk has unpacked it
        unfinished = archive.with_name(archive.name + PARTIAL)
        unpacked = unpack_zip(
            archive,
            unfinished,
            self._limits,
            used_bytes=self._unpacked_bytes,
            used_files=self._file_count,
            tick=self._tick,
        )
        unfinished.rename(target)
        self._unpacked_bytes += unpacked.size_bytes
        self._file_count += unpacked.file_count
        for name, error in unpacked.nested:
            inner = f"{file}{UNPACKED}/{name}"
            self._refuse(_key(inner), inner, error)

    def _sort_in(self, file: str) -> None:
        """Note which series a DICOM file belongs to."""
        series_uid, sop_uid = read_uids(self._folder / file)
        self._series[series_uid].append(file)
        if sop_uid:
            self._series_of_instance[sop_uid].add(series_uid)

    def _attach_nameless(self) -> None:
        """Count a DICOM file whose header is cut before its UIDs to the series around it.

        Alone it would be refused, and its series taken in without what may be its finest level.
        """
        for file in self._series.pop("", []):
            folder = file.rpartition("/")[0]
            around = {
                uid
                for uid, members in self._series.items()
                if uid and any(member.rpartition("/")[0] == folder for member in members)
            }
            self._series[around.pop() if len(around) == 1 else ""].append(file)

    def _examine_dicom(self, uid: str, files: list[str]) -> None:
        """Examine the files of one series together; those that name none, one by one."""
        if not uid:
            for file in files:
                self._guarded(_key(file), file, partial(self._read_alone, file))
            return
        shown = [_shown(file) for file in files]
        self._guarded(uid, series_name(shown, uid), lambda: self._examine_series(uid, files))

    def _read_alone(self, file: str) -> None:
        read_header(self._folder / file, self._limits)
        raise CorruptError("The DICOM file names no series.")

    def _examine_series(self, uid: str, files: list[str]) -> None:
        headers: list[Header] = []
        names: dict[str, str] = {}
        hashes: dict[str, str] = {}
        for file in files:
            path = self._folder / file
            try:
                headers.append(read_header(path, self._limits))
            except WsiError as error:
                if len(files) == 1:
                    raise
                if error.code == "not_wsi_dicom":
                    self._refuse(_key(file), file, error)
                    continue
                # A series without one of its images is not the slide that was sent.
                raise type(error)(f"{path.name}: {error.message}") from error
            names[str(path)] = file
            hashes[str(path)] = sha256_of_file(path, self._tick)
        if not headers:
            return
        if any(len(self._series_of_instance[head.sop_instance_uid]) > 1 for head in headers):
            raise ConflictingInstancesError(
                "An instance of this series is in another series of the delivery, too."
            )
        kept = require_one_image(headers, hashes)
        name = series_name([_shown(names[str(header.file)]) for header in kept], uid)
        try:
            require_whole(kept)
        except (NoVolumeError, MissingFilesError) as error:
            if not self._limits.keeps_pieces:
                raise
            pieces = describe(None, kept, names, hashes, name=name, lacks=error.code)
            self._report({"slide": pieces.to_json()})
            return
        reader = WsiDicomReader([header.file for header in kept])
        try:
            reader.require_decodable()
            found = describe(reader, kept, names, hashes, name=name)
        finally:
            reader.close()
        self._report({"slide": found.to_json()})

    def _examine_vendors(self, files: list[str]) -> None:
        """Examine every other file, main files first so that theirs are known as theirs."""
        taken: set[str] = set()
        for file in sorted(files, key=lambda file: (not file.lower().endswith(".mrxs"), file)):
            if file in taken:
                continue
            taken.update(accompanying_files(self._folder, file))
            self._guarded(_key(file), file, partial(self._examine_vendor, file))

    def _examine_vendor(self, file: str) -> None:
        found = examine_vendor_file(
            self._folder, file, self._limits, name=_shown(file), key=_key(file), tick=self._tick
        )
        self._report({"slide": found.to_json()})


def examine(folder: Path, limits: Limits | None = None) -> Delivery:
    """Return the slides in a folder and the files that are none, examined in this process.

    Parameters
    ----------
    folder
        Zip archives in it are unpacked beside themselves.
    limits
        What it may hold.
    """
    slides: list[FoundSlide] = []
    refused: list[RefusedFile] = []

    def keep(event: dict[str, Any]) -> None:
        if "slide" in event:
            slides.append(FoundSlide.from_json(event["slide"]))
        elif "refused" in event:
            refused.append(RefusedFile.from_json(event["refused"]))

    Examination(folder, limits or Limits(), keep).run()
    return Delivery(tuple(slides), tuple(refused))


def _raise_nested() -> None:
    raise NestedArchiveError


def _is_in_unpacked(file: str) -> bool:
    return any(part.endswith(UNPACKED) for part in file.split("/")[:-1])


def _shown(file: str) -> str:
    """Return a path as the sender knows it: `slides.zip/a.svs`."""
    return file.replace(f"{UNPACKED}/", "/")[:400]


def _key(file: str) -> str:
    """Return what tells the file apart in its delivery, at most 200 characters."""
    shown = _shown(file)
    return shown if len(shown) <= 180 else f"{shown[:100]}…{_hash_of(shown)}"


def _hash_of(text: str) -> str:
    """Return a short stable hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def main() -> None:
    """Examine as a child process: orders from standard input, events to a descriptor."""
    orders = json.load(sys.stdin)
    _limit(orders["memory_bytes"], orders["max_written_bytes"])
    with os.fdopen(orders["descriptor"], "w", encoding="utf-8") as out:

        def report(event: dict[str, Any]) -> None:
            out.write(json.dumps(event) + "\n")
            out.flush()

        report({"tick": True})
        limits = Limits.from_json(orders["limits"])
        Examination(Path(orders["folder"]), limits, report, orders["skip"]).run()
        report({"end": True})


def _limit(memory_bytes: int, max_written_bytes: int) -> None:
    """Bound what a hostile file can make this process take, and end with its parent."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_written_bytes, max_written_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, Linux only


if __name__ == "__main__":
    main()
