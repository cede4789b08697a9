"""Real slides and patches that the user has: found in a folder, uploaded beside the synthetic ones.

Nothing is guessed about them. A slide whose file does not say its resolution goes to the
unmatched list, as any upload would.
"""

import csv
import io
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image

from cases.demo.archive import Note, Users, is_uploaded, workshop
from cases.demo.pyramid import pyramid
from cases.demo.tiff import write_tiff
from cases.models import Department, SlideUpload
from cases.services.cases import case_upsert
from cases.services.matching import known
from cases.services.reports import report_save
from cases.services.store import link_or_copy
from cases.services.uploads import upload_local_folder

_SUFFIXES = frozenset({".svs", ".ndpi", ".tif", ".tiff", ".scn", ".bif"})
PATCH_INDEX = "patches.csv"
SLIDES_PER_CLASS = 4
_MOST_PATCHES = 240
# LC25000 does not state its resolution: this is entered in the form, and the report says so.
NOMINAL_MPP = 0.5
_CLASSES = {
    "lung_aca": ("Adenocarcinoma of the lung", "8140/3"),
    "lung_scc": ("Squamous cell carcinoma of the lung", "8070/3"),
    "lung_n": ("Lung tissue without tumor", ""),
}


@dataclass(frozen=True)
class FoundSource:
    """A slide file, or a folder of DICOM instances."""

    key: str
    path: Path


def default_folders(base_dir: Path) -> list[Path]:
    """Return what of `shared/data` beside the checkout is meant for an archive."""
    data = base_dir.parent / "shared" / "data"
    folders = [data / "slides" / "svs", *sorted((data / "slides" / "dicom").glob("cmu-*"))]
    return [folder for folder in [*folders, data / "lc25000"] if folder.is_dir()]


def sources_in(folder: Path) -> list[FoundSource]:
    """Return the slides in a folder and its subfolders, in order."""
    found = []
    for directory in [folder, *sorted(f for f in folder.rglob("*") if f.is_dir())]:
        # The place in the folder tells two files of one name apart.
        place = f"{folder.name}/{directory.relative_to(folder)}"
        files = sorted(f for f in directory.iterdir() if f.is_file())
        if any(f.suffix.lower() == ".dcm" for f in files):
            found.append(FoundSource(_key(f"{place}-dicom"), directory))
        found += [
            FoundSource(_key(f"{place}/{f.name}"), f)
            for f in files
            if f.suffix.lower() in _SUFFIXES
        ]
    return found


def found_ensure(folders: list[Path], users: Users, *, note: Note) -> list[SlideUpload]:
    """Upload what the folders hold and was not uploaded before; returns the new uploads."""
    uploads: list[SlideUpload] = []
    home = Department.objects.get(code="northside")
    try:
        _ensure(folders, home, users, note, uploads)
    finally:
        shutil.rmtree(workshop(), ignore_errors=True)
    return uploads


def _ensure(
    folders: list[Path], home: Department, users: Users, note: Note, uploads: list[SlideUpload]
) -> None:
    for folder in folders:
        if (folder / PATCH_INDEX).is_file():
            uploads += _patch_slides_ensure(folder, users, note)
        for source in sources_in(folder):
            if is_uploaded(home, source.key):
                continue
            uploads.append(_upload_source(source, home, users["northside-technician"]))
            note(f"{source.key}: from {source.path.name}")


def _key(place: str) -> str:
    return "real-" + re.sub(r"[^a-z0-9]+", "-", place.lower()).strip("-")[-55:].strip("-")


def _upload_source(source: FoundSource, home: Department, user: Any) -> SlideUpload:
    """Upload a real slide; where it names no patient, it gets numbers of the archive's own."""
    staged = workshop() / source.key / source.key
    shutil.rmtree(staged.parent, ignore_errors=True)
    staged.mkdir(parents=True)
    files = sorted(source.path.glob("*.dcm")) if source.path.is_dir() else [source.path]
    for file in files:
        link_or_copy(file, staged / file.name)
    upload = upload_local_folder(
        user=user,
        department=home,
        folder=staged.parent,
        source=SlideUpload.Source.DEMO,
        **_form(source, files[0]),
    )
    shutil.rmtree(staged.parent)
    return upload


def _form(source: FoundSource, first: Path) -> dict[str, str]:
    """Return what the form says: nothing that a DICOM header says itself."""
    number = source.key.upper()
    form = {"accession_number": number, "mrn": number}
    if not source.path.is_dir():
        return form
    try:
        header = pydicom.dcmread(first, specific_tags=["PatientID", "AccessionNumber"])
    except (OSError, pydicom.errors.InvalidDicomError):
        return form  # the intake names what is wrong with it
    said = {"accession_number": header.get("AccessionNumber"), "mrn": header.get("PatientID")}
    return {name: value for name, value in form.items() if not known(said[name])}


def _patch_slides_ensure(folder: Path, users: Users, note: Note) -> Iterator[SlideUpload]:
    """Make slides of one class each out of patches, all of one prototype in one slide."""
    departments = list(Department.objects.filter(code__in=["northside", "lakeview"]).order_by("pk"))
    with _Patches(folder) as patches:
        for label, (line, code) in _CLASSES.items():
            groups = patches.groups(label)
            for number in range(SLIDES_PER_CLASS if groups else 0):
                key = f"lc25000-{label.replace('_', '-')}-{number + 1}"
                department = departments[number % len(departments)]
                if is_uploaded(department, key):
                    continue
                paths = [path for group in groups[number::SLIDES_PER_CLASS] for path in group]
                mosaic = patches.mosaic(paths[:_MOST_PATCHES], seed=number)
                _case_of_patches(department, key, line, code, users)
                yield _upload_mosaic(department, key, mosaic, users)
                note(f"{key}: {min(len(paths), _MOST_PATCHES)} patches")


def _case_of_patches(department: Department, key: str, line: str, code: str, users: Users) -> None:
    case, _created = case_upsert(
        user=users[f"{department.code}-technician"],
        department=department,
        data={
            "accession_number": key.upper(),
            "patient": {"mrn": key.upper()},
            "specimens": [{"label": "A", "organ": "Lung"}],
            "slides": [{"label": "A1-1", "stain": "H&E", "specimen": "A"}],
        },
    )
    if case.reports.exists():
        return
    author = users[f"{department.code}-pathologist"]
    report_save(
        user=author,
        case=case,
        author=author,
        status="final",
        diagnosis_line=line,
        diagnosis_code=code,
        diagnosis_system="ICD-O-3" if code else "",
        diagnosis_text=f"{line}, by the label of the data set.",
        comment=(
            "Made from patches of the public LC25000 data set (real tissue, several patients), "
            f"set side by side; no whole slide. Nominal resolution {NOMINAL_MPP} um per pixel."
        ),
    )


def _upload_mosaic(
    department: Department, key: str, mosaic: np.ndarray, users: Users
) -> SlideUpload:
    target = workshop() / key / key
    shutil.rmtree(target.parent, ignore_errors=True)
    target.mkdir(parents=True)
    write_tiff(
        target / f"{key}.tiff",
        pyramid(mosaic),
        None,
        description="Made from LC25000 patches",
        model="LC25000",
    )
    upload = upload_local_folder(
        user=users[f"{department.code}-technician"],
        department=department,
        folder=target.parent,
        source=SlideUpload.Source.DEMO,
        accession_number=key.upper(),
        mrn=key.upper(),
        organ="Lung",
        stain="H&E",
        slide_label="A1-1",
        mpp=NOMINAL_MPP,
    )
    shutil.rmtree(target.parent)
    return upload


class _Patches:
    """Patches with label and prototype, from a zip or from folders beside the index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with (folder / PATCH_INDEX).open(encoding="utf-8", newline="") as reader:
            self._rows = list(csv.DictReader(reader))
        zips = sorted(folder.glob("*.zip"))
        self._zip = zipfile.ZipFile(zips[0]) if zips else None
        self._names = {}
        for name in self._zip.namelist() if self._zip else ():
            self._names["/".join(name.split("/")[-2:])] = name

    def __enter__(self) -> "_Patches":
        return self

    def __exit__(self, *error: object) -> None:
        if self._zip:
            self._zip.close()

    def groups(self, label: str) -> list[list[str]]:
        """Return the paths of a label, one list per prototype."""
        by_prototype: dict[str, list[str]] = {}
        for row in self._rows:
            if row["label"] == label:
                by_prototype.setdefault(row["prototype"], []).append(row["path"])
        return list(by_prototype.values())

    def mosaic(self, paths: list[str], *, seed: int) -> np.ndarray:
        """Return the patches side by side in random order, RGB uint8, framed by white."""
        order = np.random.default_rng(seed).permutation(len(paths))
        first = self._read(paths[0])
        side = first.shape[0]
        columns = int(np.ceil(np.sqrt(len(paths))))
        rows = -(-len(paths) // columns)
        sheet = np.full(((rows + 2) * side, (columns + 2) * side, 3), 244, np.uint8)
        for place, pick in enumerate(order):
            top, left = (place // columns + 1) * side, (place % columns + 1) * side
            sheet[top : top + side, left : left + side] = self._read(paths[int(pick)])
        return sheet

    def _read(self, path: str) -> np.ndarray:
        if self._zip:
            data = io.BytesIO(self._zip.read(self._names["/".join(path.split("/")[-2:])]))
        else:
            data = io.BytesIO((self._folder / path).read_bytes())
        return np.asarray(Image.open(data).convert("RGB"))
