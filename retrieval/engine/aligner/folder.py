"""Writes an archive as plain files, slide by slide, so that it need not fit into memory."""

import csv
import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

DONE = "archive.json"


@dataclass(frozen=True)
class SlideLine:
    """What is known of a slide, beside its features."""

    slide_id: str
    patient: str
    hospital: str
    label: str
    split: str


def drawn_patches(features: Floats, most: int, seed: int) -> Floats:
    """Return the features (N, D), or `most` rows of them, drawn without replacement, in order."""
    if len(features) <= most:
        return features
    chosen = np.random.default_rng(seed).choice(len(features), most, replace=False)
    return features[np.sort(chosen)]


def write_folder(
    folder: Path,
    slides: Iterable[tuple[SlideLine, Floats]],
    reports: Iterable[tuple[str, str]],
    *,
    width: int,
) -> None:
    """Write ``features.npy``, ``offsets.npy``, ``slides.csv`` and ``reports.csv.gz``.

    `read_archive` reads them, the features as a memory map. ``archive.json`` comes last: where
    it is missing, the writing was cut off and is to be done again.

    Parameters
    ----------
    folder : Path
        Made with access for its owner only: the reports are patients'.
    slides : iterable of (SlideLine, float16 (N, D))
    reports : iterable of (patient, text)
    width : int
        D.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / DONE).unlink(missing_ok=True)
    offsets = [0]
    raw = folder / "features.f2"
    with raw.open("wb") as file, (folder / "slides.csv").open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["slide_id", "patient_id", "hospital", "label", "split"])
        for line, features in slides:
            file.write(np.ascontiguousarray(features, "<f2").tobytes())
            offsets.append(offsets[-1] + len(features))
            writer.writerow([line.slide_id, line.patient, line.hospital, line.label, line.split])
    with gzip.open(folder / "reports.csv.gz", "wt", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(["patient_id", "text"])
        writer.writerows(reports)
    np.save(folder / "offsets.npy", np.array(offsets, np.int64))
    done = {"slides": len(offsets) - 1, "patches": offsets[-1], "width": width}
    (folder / DONE).write_text(json.dumps(done), encoding="utf-8")


def is_complete(folder: Path) -> bool:
    """Return whether `write_folder` came to its end there."""
    return (folder / DONE).is_file()
