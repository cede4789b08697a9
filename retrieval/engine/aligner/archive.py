"""Slides, labels and reports from plain files: features.npz, slides.csv, reports.csv.gz."""

import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.engine.errors import EngineError
from retrieval.engine.evaluation import Subjects

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


class ArchiveInvalid(EngineError):
    """The files of an archive contradict each other, or lack something."""

    code = "archive_invalid"


@dataclass(frozen=True)
class Archive:
    """Slides as bags of patch features, with what is known of each.

    Attributes
    ----------
    features : float (sum of N, D)
        All patches, slide after slide.
    offsets : int64 (S + 1,)
        Slide i owns the rows offsets[i] to offsets[i + 1].
    slide_ids, patients, hospitals, labels, splits : tuples of str (S,)
        A label or split that is not known is empty.
    reports : dict of str to str
        Report text by patient.
    """

    features: Floats
    offsets: Ints
    slide_ids: tuple[str, ...]
    patients: tuple[str, ...]
    hospitals: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    reports: dict[str, str]

    def __post_init__(self) -> None:
        count = len(self.slide_ids)
        columns = (self.patients, self.hospitals, self.labels, self.splits)
        if self.offsets.shape != (count + 1,) or any(len(c) != count for c in columns):
            raise ArchiveInvalid("Features, slides and their columns differ in number.")
        if self.features.ndim != 2 or not count:
            raise ArchiveInvalid("An archive needs at least one slide with (N, D) features.")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.features):
            raise ArchiveInvalid("The offsets do not cover the features.")
        if (np.diff(self.offsets) < 1).any():
            raise ArchiveInvalid("A slide has no patch; leave such slides out.")
        if len(set(self.slide_ids)) != count:
            raise ArchiveInvalid("A slide id is there twice.")

    def __len__(self) -> int:
        return len(self.slide_ids)

    def bag(self, slide: int) -> Floats:
        """Return the features (N, D) of a slide."""
        return self.features[self.offsets[slide] : self.offsets[slide + 1]]

    def positions(self, split: str) -> Ints:
        """Return the positions of the slides of a split.

        Raises ArchiveInvalid when it has none.
        """
        found = np.flatnonzero(np.array([value == split for value in self.splits]))
        if not len(found):
            known = ", ".join(sorted(set(self.splits))) or "none"
            raise ArchiveInvalid(f"No slide is in the split {split!r}; splits: {known}.")
        return found

    def label_names(self) -> tuple[str, ...]:
        """Return the labels in use, sorted; their positions are the label numbers."""
        return tuple(sorted({label for label in self.labels if label}))

    def subjects(self) -> Subjects:
        """Return labels, patients and hospitals as numbers; an unknown label is -1."""
        at = {name: number for number, name in enumerate(self.label_names())}
        labels = np.array([at.get(label, -1) for label in self.labels], np.int64)
        return Subjects(labels, numbered(self.patients), numbered(self.hospitals))

    def disjoint(self, first: Ints, second: Ints) -> bool:
        """Return whether two sets of slides share neither a patient nor a hospital."""
        for column in (self.patients, self.hospitals):
            if {column[i] for i in first} & {column[i] for i in second}:
                return False
        return True


def numbered(values: Sequence[str]) -> Ints:
    """Return for each value the position of it among the sorted distinct ones."""
    return np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)[1].astype(
        np.int64
    )


def read_archive(folder: Path, *, label_column: str = "cancer_type") -> Archive:
    """Read ``features.npz``, ``slides.csv`` and, when there, ``reports.csv.gz`` of a folder.

    Parameters
    ----------
    folder : Path
        ``features.npz`` holds `features` (sum of N, D), `offsets` (S + 1,) and `slide_id`
        (S,), or there are the raw files of `retrieval.engine.aligner.folder`; ``slides.csv``
        the columns slide_id, patient_id, hospital, split and the label; ``reports.csv.gz``
        patient_id and text.
    label_column : str
        Column of slides.csv to learn and measure; where it is missing, all labels are empty.

    Raises
    ------
    ArchiveInvalid
        A file or column is missing, or they contradict each other.
    """
    try:
        with (folder / "slides.csv").open(newline="", encoding="utf-8") as file:
            rows = {row["slide_id"]: row for row in csv.DictReader(file)}
        features, offsets, slide_ids = _bags(folder, tuple(rows))
        lines = [rows[slide_id] for slide_id in slide_ids]
        columns = [
            tuple(line[name] for line in lines) for name in ("patient_id", "hospital", "split")
        ]
    except (OSError, KeyError, ValueError) as error:
        raise ArchiveInvalid(f"The archive {folder.name} cannot be read: {error}.") from error
    labels = tuple(line.get(label_column) or "" for line in lines)
    reports: dict[str, str] = {}
    report_file = folder / "reports.csv.gz"
    if report_file.is_file():
        with gzip.open(report_file, "rt", newline="", encoding="utf-8") as text:
            reports = {row["patient_id"]: row["text"] for row in csv.DictReader(text)}
    patients, hospitals, splits = columns
    return Archive(features, offsets, slide_ids, patients, hospitals, labels, splits, reports)


def _bags(folder: Path, listed: tuple[str, ...]) -> tuple[Floats, Ints, tuple[str, ...]]:
    """Return features, offsets and slide ids; raw features stay on the disk until needed."""
    if (folder / "archive.json").is_file():
        written = json.loads((folder / "archive.json").read_text(encoding="utf-8"))
        shape = (int(written["patches"]), int(written["width"]))
        raw: Floats = np.memmap(folder / "features.f2", "<f2", "r", shape=shape)
        return raw, np.load(folder / "offsets.npy", allow_pickle=False), listed
    # allow_pickle stays off: the file comes from outside.
    with np.load(folder / "features.npz", allow_pickle=False) as stored:
        return (
            stored["features"],
            stored["offsets"].astype(np.int64),
            tuple(str(value) for value in stored["slide_id"]),
        )


def slide_means(archive: Archive, slides: Ints | None = None) -> npt.NDArray[np.float32]:
    """Return the mean feature (n, D) of some slides, or of all."""
    chosen = range(len(archive)) if slides is None else slides
    means = [archive.bag(int(i)).astype(np.float32).mean(0, dtype=np.float64) for i in chosen]
    return np.stack(means).astype(np.float32)


def hospital_folds(hospitals: Sequence[str], count: int, seed: int = 0) -> list[Ints]:
    """Split slides into parts that share no hospital, of nearly equal size.

    Hospitals come largest first, equal ones in an order drawn by the seed, each to the
    smallest part so far. A part may be empty where there are fewer hospitals than parts.
    """
    number = numbered(hospitals)
    sizes = np.bincount(number)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    filled = np.zeros(count, np.int64)
    part_of = np.zeros(len(sizes), np.int64)
    for hospital in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        part_of[hospital] = int(filled.argmin())
        filled[part_of[hospital]] += sizes[hospital]
    return [np.flatnonzero(part_of[number] == part) for part in range(count)]
