"""The map of the slides that a user sees, packed for a browser."""

import json
import struct
from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import Q

from cases.models import Report
from retrieval.models import EmbeddingModel, MapPoint, MapRun

# A diagnosis line names a code where so many patients have the same one, word for word: such a
# line is a term and no sentence about a person.
SAME_LINE_PATIENTS = 3
NONE = "not known"


@dataclass(frozen=True)
class ArchiveMap:
    """Points in scope, ordered by id. codes: per colouring, an index into its labels."""

    run: MapRun | None
    ids: list[Any]
    xy: np.ndarray
    codes: dict[str, np.ndarray]
    labels: dict[str, list[str]]

    def packed(self) -> bytes:
        """Return it as bytes: length of a JSON head (uint32), head, x, y, codes, ids.

        Little-endian; the head is padded to 4 bytes. x and y float32, codes uint16 in the order of
        the head's `colours`, ids 16 bytes each. No figure of slides out of scope is in it.
        """
        head = {
            "count": len(self.ids),
            "colours": list(self.codes),
            "labels": self.labels,
            "made": self.run.created_at.date().isoformat() if self.run else None,
            "model": self.run.model.name if self.run else None,
        }
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 4)
        parts = [struct.pack("<I", len(text)), text]
        parts += [np.ascontiguousarray(self.xy[:, axis], "<f4").tobytes() for axis in (0, 1)]
        parts += [codes.astype("<u2").tobytes() for codes in self.codes.values()]
        parts += [pk.bytes for pk in self.ids]
        return b"".join(parts)


def archive_map(user: Any) -> ArchiveMap:
    """Return the map of the model that searches use, of the slides that the user sees."""
    run = (
        MapRun.objects.filter(model__is_active=True, model__modality=EmbeddingModel.Modality.IMAGE)
        .select_related("model")
        .first()
    )
    rows: list[Any] = []
    if run is not None:
        rows = list(
            MapPoint.objects.visible_to(user)
            .filter(run=run)
            .order_by("slide_image_id")
            .values_list(
                "slide_image_id",
                "x",
                "y",
                "slide_image__slide__specimen__organ",
                "slide_image__scanner",
                "department__name",
                "slide_image__slide__case_id",
                "slide_image__slide__case__patient_id",
            )
        )
    diagnoses = _diagnoses(user, {row[6]: row[7] for row in rows})
    columns = {
        "diagnosis": [diagnoses.get(row[6], NONE) for row in rows],
        "organ": [row[3] or NONE for row in rows],
        "scanner": [row[4] or NONE for row in rows],
        "department": [row[5] for row in rows],
    }
    codes, labels = {}, {}
    for name, values in columns.items():
        codes[name], labels[name] = _coded(values)
    xy = np.array([row[1:3] for row in rows], np.float32).reshape(-1, 2)
    return ArchiveMap(run, [row[0] for row in rows], xy, codes, labels)


def _diagnoses(user: Any, patients: dict[Any, Any]) -> dict[Any, str]:
    """Return the diagnosis of each case: the code, with the line that patients of it share."""
    reports = (
        Report.objects.visible_to(user)
        .filter(Q(status=Report.Status.FINAL) | Q(status=Report.Status.AMENDED), is_current=True)
        .exclude(diagnosis_code="")
        .values_list("case_id", "diagnosis_code", "diagnosis_line")
    )
    code_of: dict[Any, str] = {}
    said: dict[str, dict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for case, code, line in reports:
        if case in patients:
            code_of[case] = code
            said[code][line].add(patients[case])
    names = {}
    for code, lines in said.items():
        line, who = max(lines.items(), key=lambda one: (len(one[1]), one[0]))
        is_term = line and len(who) >= SAME_LINE_PATIENTS
        names[code] = f"{code} {line[:80]}" if is_term else code
    return {case: names[code] for case, code in code_of.items()}


def _coded(values: list[Hashable]) -> tuple[np.ndarray, list[str]]:
    """Return codes and labels, the most frequent first, ties by name."""
    counts = Counter(values)
    labels = sorted(counts, key=lambda label: (-counts[label], str(label)))[:65_535]
    number = {label: at for at, label in enumerate(labels)}
    last = max(len(labels) - 1, 0)
    return np.array([number.get(value, last) for value in values], np.uint16), [
        str(label) for label in labels
    ]
