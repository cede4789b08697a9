"""Folders and files under DATA_DIR: the only code that names, links and removes them.

Nothing half-stored: a folder is filled under `<name>.partial`, flushed, renamed, and only
then does a row point to it. What a crash leaves behind has no row, and the sweep removes it.
Names that people sent are never paths here; see `safe_relative_name` for the one place where
they shape the examination folder, because formats of several files refer to each other by name.
"""

import errno
import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from uuid import UUID

from django.conf import settings

from cases.errors import InsufficientStorage
from cases.models import SlideImage, UploadFile
from cases.wsi.delivery import FoundSlide

COPY_BYTES = 4 * 2**20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})
SINGLE_FILE_SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".czi"})


def spool_folder(upload_id: UUID) -> Path:
    """Return where the bytes of an upload arrive."""
    return settings.DATA_DIR / "spool" / str(upload_id)


def spool_file(upload_file: UploadFile) -> Path:
    """Return the file that receives these bytes; its name is our own."""
    return spool_folder(upload_file.upload_id) / str(upload_file.pk)


def work_folder(upload_id: UUID) -> Path:
    """Return where an upload is laid out for examination."""
    return settings.DATA_DIR / "work" / str(upload_id)


def slide_folder(slide_image_id: UUID) -> Path:
    """Return the final folder of a slide image."""
    return settings.DATA_DIR / "slides" / str(slide_image_id)


def unmatched_folder(item_id: UUID) -> Path:
    """Return where a slide waits until somebody says whose it is."""
    return settings.DATA_DIR / "unmatched" / str(item_id)


def thumbnail_file(slide_image_id: UUID) -> Path:
    """Return the picture of the whole slide, without its label."""
    return settings.DATA_DIR / "thumbnails" / f"{slide_image_id}.jpeg"


def image_path(slide_image: SlideImage) -> Path:
    """Return what a reader opens."""
    return settings.DATA_DIR / slide_image.path


def free_bytes() -> int:
    """Return the free space of the data folder's disk."""
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(settings.DATA_DIR).free


def require_free_space(needed_bytes: int) -> None:
    """Raise InsufficientStorage unless so much fits and the reserve stays free."""
    if free_bytes() - needed_bytes < settings.DISK_RESERVE_BYTES:
        raise InsufficientStorage


@contextmanager
def naming_a_full_disk() -> Iterator[None]:
    """Turn the system's "no space left" into the named error."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InsufficientStorage from error
        raise


def fsync(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a folder or file, whole or not there at all."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


_UNSAFE = re.compile(r"[^\w .,()+=@#&\[\]-]", re.UNICODE)


def safe_relative_name(name: str, taken: set[str]) -> str:
    """Return a relative path that keeps the sender's structure and nothing dangerous.

    taken: names given out already (casefolded); the new one is added.
    """
    parts = []
    for part in re.split(r"[/\\]+", unicodedata.normalize("NFC", name)):
        clean = _UNSAFE.sub("_", part).strip(" ")
        if clean.strip(".") == "":
            continue
        stem, dot, suffix = clean.rpartition(".")
        # 200 bytes leave room on every file system; the suffix is what formats look at.
        while len(clean.encode()) > 200:
            stem = stem[:-1] if dot else stem
            clean = f"{stem}{dot}{suffix[:20]}" if dot and stem else clean[:-1]
        parts.append(clean)
    relative = "/".join(parts[-8:]) or "unnamed"
    unique, number = relative, 1
    while unique.casefold() in taken:
        number += 1
        unique = f"again-{number}/{relative}"
    taken.add(unique.casefold())
    return unique


def link_or_copy(source: Path, target: Path, tick: Callable[[], None] | None = None) -> None:
    """Give a file a second name; copy it where the file system knows no hard links.

    tick: called between pieces of a copy, to show that the job is alive.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
        return
    except FileExistsError:
        target.unlink()
        target.hardlink_to(source)
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(COPY_BYTES):
            writer.write(piece)
            if tick is not None:
                tick()


def layout(found: FoundSlide) -> dict[str, str]:
    """Return {file in the examined folder: file in the slide's own folder}.

    A DICOM instance's name comes from the hash of its UID, so that the same instance lands
    on the same name again. A vendor's single file gets a fixed name; files that refer to
    each other keep theirs, relative to the main file.
    """
    if found.source_format == SlideImage.Format.DICOM:
        return {i.file: instance_file_name(i.sop_instance_uid) for i in found.instances}
    if len(found.files) == 1:
        suffix = PurePosixPath(found.main_file).suffix.lower()
        return {found.main_file: "slide" + (suffix if suffix in SINGLE_FILE_SUFFIXES else ".tiff")}
    base = PurePosixPath(found.main_file).parent
    return {file: _inside(PurePosixPath(file), base) for file in found.files}


def _inside(file: PurePosixPath, base: PurePosixPath) -> str:
    relative = file.relative_to(base)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError("a stored file must lie beside the slide's main file")
    return str(relative)


def instance_file_name(sop_instance_uid: str) -> str:
    """Return the name of a DICOM instance's file in its slide's folder."""
    return hashlib.sha256(sop_instance_uid.encode()).hexdigest()[:40] + ".dcm"


def place(
    source: Path, target: Path, names: Mapping[str, str], tick: Callable[[], None] | None = None
) -> None:
    """Fill `target` with the named files of `source`: whole, or not at all."""
    partial = target.with_name(target.name + ".partial")
    remove(partial)
    with naming_a_full_disk():
        partial.mkdir(parents=True)
        for file, name in names.items():
            link_or_copy(source / file, partial / name, tick)
            # What came out of a zip was never flushed; the spool's own files cost nothing here.
            fsync(partial / name)
        for folder in {(partial / name).parent for name in names.values()} | {partial}:
            fsync(folder)
        partial.rename(target)
        fsync(target.parent)


def add(source: Path, target: Path, names: Mapping[str, str]) -> None:
    """Add files to a folder that is in use; each appears whole, and again does no harm."""
    partial = target.with_name(target.name + ".partial")
    remove(partial)
    with naming_a_full_disk():
        partial.mkdir(parents=True)
        for file, name in names.items():
            link_or_copy(source / file, partial / name)
            fsync(partial / name)
            # Renaming a link over another of the same file does nothing; the folder goes anyway.
            (partial / name).replace(target / name)
        fsync(target)
    remove(partial)
