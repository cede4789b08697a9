"""What lies in a watched folder, grouped into deliveries, and whether it is complete.

Network shares tell nobody of changes, so the folder is looked at again and again: a delivery is
complete when nothing in it has changed for a while. Nothing here follows a link.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DONE, REJECTED, OWN = "done", "rejected", ".pathsearch"
MARKER = ".done"
CHECKSUM = ".sha256"
LOOSE_DICOM = "dicom-files"
TEMPORARY_SUFFIXES = (
    ".tmp", ".temp", ".part", ".partial", ".crdownload", ".filepart", ".swp", ".lock", ".writing",
)  # fmt: skip
COMPANIONS = frozenset(("thumbs.db", "desktop.ini"))
REASON_SUFFIX = ".reason.txt"

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in ns."""


@dataclass(frozen=True)
class Delivery:
    """Things that belong together.

    Attributes
    ----------
    name
        Of the delivery in `done` and `rejected`.
    entries
        Names in the watched folder that are moved together.
    files
        Relative path in the watched folder -> size and time.
    problem
        Why it can never be taken, such as a link in it.
    markers
        Names beside it that say that it is complete, or its checksum; moved with it.
    is_writing
        Whether a temporary name in it says that somebody writes.
    """

    name: str
    entries: tuple[str, ...]
    files: dict[str, Stamp] = field(hash=False)
    problem: str = ""
    markers: tuple[str, ...] = ()
    is_writing: bool = False

    @property
    def has_marker(self) -> bool:
        """Return whether its sender says that it is complete."""
        return any(marker.endswith(MARKER) for marker in self.markers)


def is_temporary(name: str) -> bool:
    """Return whether a name is one that programs give to files they have not finished."""
    lower = name.casefold()
    return lower.startswith((".", "~")) or lower.endswith((*TEMPORARY_SUFFIXES, "~"))


def find_deliveries(folder: Path) -> list[Delivery]:
    """Return what lies in the folder, whether complete or not."""
    entries = {
        entry.name: entry
        for entry in os.scandir(folder)
        if entry.name not in (DONE, REJECTED, OWN) and entry.name.casefold() not in COMPANIONS
    }
    plain = {name for name in entries if not is_temporary(name)}
    markers = {name for name in plain if _marked(name) in plain}
    groups: dict[str, list[str]] = {}
    for name in sorted(plain - markers):
        if name.endswith(REASON_SUFFIX):
            continue
        _stem, dot, suffix = name.rpartition(".")
        if f"{name}.mrxs" in plain and entries[name].is_dir(follow_symlinks=False):
            groups.setdefault(f"{name}.mrxs", []).append(name)
        elif dot and suffix.casefold() == "dcm" and entries[name].is_file(follow_symlinks=False):
            groups.setdefault(LOOSE_DICOM, []).append(name)
        else:
            groups.setdefault(name, []).append(name)
    return [
        _delivery(folder, name, members, markers)
        for name, members in groups.items()
    ]  # fmt: skip


def _marked(name: str) -> str:
    """Return what a marker's name speaks of, empty when it is none."""
    for suffix in (MARKER, CHECKSUM):
        if name.casefold().endswith(suffix):
            return name[: -len(suffix)]
    return ""


def _delivery(folder: Path, name: str, members: list[str], markers: set[str]) -> Delivery:
    files: dict[str, Stamp] = {}
    problem, is_writing = "", False
    for member in sorted(members):
        for path, status in _walk(folder / member):
            relative = path.relative_to(folder).as_posix()
            if stat.S_ISLNK(status.st_mode):
                problem = f"{relative} is a link. Put the file itself here."
            elif not stat.S_ISREG(status.st_mode):
                problem = f"{relative} is no plain file."
            elif path.name.casefold() in COMPANIONS or path.name.startswith("._"):
                continue
            elif is_temporary(path.name):
                is_writing = True
            else:
                files[relative] = (status.st_size, status.st_mtime_ns)
    own = tuple(sorted(marker for marker in markers if _marked(marker) in (*members, name)))
    return Delivery(name, tuple(sorted(members)), files, problem, own, is_writing)


def _walk(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield everything that is no folder, without following a link."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        yield path, status
        return
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        yield from _walk(Path(entry.path))


class Stability:
    """Remembers since when a delivery has looked as it does."""

    def __init__(self, quiet_seconds: float) -> None:
        self._quiet_seconds = quiet_seconds
        self._seen: dict[str, tuple[dict[str, Stamp], float]] = {}

    def complete(self, deliveries: list[Delivery], *, needs_marker: bool) -> list[Delivery]:
        """Return those that are complete by now, and those that never can be taken."""
        now = time.monotonic()
        known = {}
        ready = []
        for delivery in deliveries:
            files, since = self._seen.get(delivery.name, (None, now))
            if files != delivery.files:
                since = now
            known[delivery.name] = (delivery.files, since)
            is_quiet = now - since >= self._quiet_seconds
            if delivery.problem:
                if is_quiet:
                    ready.append(delivery)
            elif delivery.is_writing or not delivery.files:
                continue
            elif delivery.has_marker or (is_quiet and not needs_marker):
                ready.append(delivery)
        self._seen = known
        return ready
