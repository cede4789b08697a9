"""Which slides are learned from and which are held out: no patient, and no hospital, in both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.engine.aligner.archive import ArchiveInvalid

Ints = npt.NDArray[np.int64]

# Fewer held-out slides with a label that was learned measure nothing.
HELD_OUT_MIN = 4
BY_HOSPITAL, BY_PATIENT = "hospital", "patient"


@dataclass(frozen=True)
class Split:
    """A division of slides.

    Attributes
    ----------
    train, held_out : int (n,), (m,)
        Positions of the slides.
    left_out : int (k,)
        Slides of patients who are in both; they would tell the one part of the other.
    by : str
        ``hospital``: the parts share neither a hospital nor a patient. ``patient``: no patient.
    """

    train: Ints
    held_out: Ints
    left_out: Ints
    by: str


def disjoint_split(
    patients: Sequence[str],
    hospitals: Sequence[str],
    labels: Sequence[str],
    *,
    share: float = 0.2,
    seed: int = 0,
) -> Split:
    """Hold out whole hospitals, or, where that leaves nothing to learn or measure, patients.

    Parameters
    ----------
    patients, hospitals, labels : sequences of str (S,)
        A label that is not known is empty.
    share : float, 0 to 1
        Of the slides that are held out, about.
    seed : int

    Raises
    ------
    ArchiveInvalid
        Too few labelled slides for either.
    """
    by_hospital = _by_hospital(patients, hospitals, share, seed)
    if by_hospital and _is_useful(by_hospital, labels):
        return by_hospital
    by_patient = _by_patient(patients, labels, share, seed)
    if _is_useful(by_patient, labels):
        return by_patient
    raise ArchiveInvalid(
        f"Too few slides to learn from: at least two diagnoses are needed, and {HELD_OUT_MIN} "
        "slides of other patients with these diagnoses to choose by."
    )


def _by_hospital(
    patients: Sequence[str], hospitals: Sequence[str], share: float, seed: int
) -> Split | None:
    names = sorted(set(hospitals))
    if len(names) < 2:
        return None
    sizes = {name: sum(h == name for h in hospitals) for name in names}
    target = share * len(hospitals)
    chosen: set[str] = set()
    total = 0
    for name in np.random.default_rng(seed).permutation(names).tolist():
        if total < 0.75 * target and total + sizes[name] <= 1.5 * target:
            chosen.add(name)
            total += sizes[name]
    if not chosen:
        chosen = {min(names, key=lambda name: (sizes[name], name))}
    held_out = [i for i, hospital in enumerate(hospitals) if hospital in chosen]
    known = {patients[i] for i in held_out}
    others = [i for i, hospital in enumerate(hospitals) if hospital not in chosen]
    return Split(
        _positions([i for i in others if patients[i] not in known]),
        _positions(held_out),
        _positions([i for i in others if patients[i] in known]),
        BY_HOSPITAL,
    )


def _by_patient(patients: Sequence[str], labels: Sequence[str], share: float, seed: int) -> Split:
    # By the label of a patient's first slide, so that every label is on both sides.
    label_of: dict[str, str] = {}
    for patient, label in zip(patients, labels, strict=True):
        if label or patient not in label_of:
            label_of[patient] = label_of.get(patient) or label
    rng = np.random.default_rng(seed)
    held_out: set[str] = set()
    for label in sorted(set(label_of.values())):
        own = sorted(patient for patient, found in label_of.items() if found == label)
        count = round(share * len(own)) or (1 if len(own) > 2 else 0)
        held_out |= set(rng.permutation(own)[:count].tolist())
    return Split(
        _positions([i for i, patient in enumerate(patients) if patient not in held_out]),
        _positions([i for i, patient in enumerate(patients) if patient in held_out]),
        _positions([]),
        BY_PATIENT,
    )


def _is_useful(split: Split, labels: Sequence[str]) -> bool:
    learned = {labels[i] for i in split.train} - {""}
    return len(learned) >= 2 and sum(labels[i] in learned for i in split.held_out) >= HELD_OUT_MIN


def _positions(values: list[int]) -> Ints:
    return np.array(values, np.int64)
