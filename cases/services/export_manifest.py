"""The manifest of an export: what is in it, under which pseudonyms; nothing that identifies."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from cases.models import Report, SlideImage
from cases.wsi.deidentify import Pseudonyms, Written
from cases.wsi.deidentify.rules import OPTIONS
from cases.wsi.deidentify.vocabulary import concept_by_meaning

COLUMNS = (
    "file", "patient", "case", "container", "study_instance_uid", "series_instance_uid",
    "sop_instance_uid", "sha256", "size_bytes", "columns", "rows", "frames", "frames_cleaned",
    "organ_code", "organ",
)  # fmt: skip
DIAGNOSIS_COLUMNS = ("diagnosis_system", "diagnosis_code")
_JSON_WORDS = (
    "deidentified-dicom-export/1", "DICOM PS3.15 Annex E", "LABEL", "OVERVIEW", "THUMBNAIL",
    "format", "project", "profile", "options", "code", "meaning", "left_out", "patients",
    "slides", "instances",
)  # fmt: skip
# Code systems by the name they have in reports, and how their codes look: no free text passes.
_SYSTEMS = {
    "ICD-O-3": re.compile(r"[CM]?\d{2,4}(\.\d)?(/\d)?"),
    "ICD-10": re.compile(r"[A-Z]\d{2}(\.\d{1,4})?"),
    "ICD-10-CM": re.compile(r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?"),
    "ICD-10-GM": re.compile(r"[A-Z]\d{2}(\.\d{1,2})?"),
    "ICD-11": re.compile(r"[0-9A-Z]{4}(\.[0-9A-Z]{1,2})?"),
    "SNOMED CT": re.compile(r"\d{6,18}"),
}


def manifest_row(
    *, file: str, sha256: str, written: Written, names: Pseudonyms, slide_image: SlideImage
) -> dict[str, Any]:
    """Return the row of one exported instance."""
    specimen = slide_image.slide.specimen
    organ = concept_by_meaning(specimen.organ) if specimen is not None else None
    return {
        "file": file,
        "patient": names.patient,
        "case": names.case,
        "container": names.container,
        "study_instance_uid": written.study_instance_uid,
        "series_instance_uid": written.series_instance_uid,
        "sop_instance_uid": written.sop_instance_uid,
        "sha256": sha256,
        "size_bytes": written.size_bytes,
        "columns": written.columns,
        "rows": written.rows,
        "frames": written.frames,
        "frames_cleaned": written.frames_changed,
        "organ_code": organ.value if organ else "",
        "organ": organ.meaning if organ else "",
    }


def diagnosis_of(report: Report | None) -> dict[str, str]:
    """Return the signed diagnosis as a code, empty where it is none that can be checked."""
    empty = dict.fromkeys(DIAGNOSIS_COLUMNS, "")
    if report is None or not report.is_signed:
        return empty
    form = _SYSTEMS.get(report.diagnosis_system)
    if form is None or not form.fullmatch(report.diagnosis_code):
        return empty
    return {
        "diagnosis_system": report.diagnosis_system,
        "diagnosis_code": report.diagnosis_code,
    }


def manifest_words(rows: Iterable[dict[str, Any]]) -> set[str]:
    """Return what stands in a manifest and points at nobody: its own words, counts, codes.

    A patient may be called Columns, and a file may have as many bytes as a record's number says.
    """
    words = {*COLUMNS, *DIAGNOSIS_COLUMNS, *_JSON_WORDS, *_SYSTEMS}
    words.update(part for option in OPTIONS for part in option)
    rows = list(rows)
    for key in ("patient", "series_instance_uid"):
        words.add(str(len({row[key] for row in rows})))
    for row in rows:
        words.update(str(row[name]) for name in ("organ_code", "organ"))
        words.update(row.get(name, "") for name in DIAGNOSIS_COLUMNS)
        words.update(str(value) for value in row.values() if isinstance(value, int))
    return words - {""}


def manifest_values(name: str, data: bytes) -> Iterator[str]:
    """Yield every cell, key and value of a written manifest, read anew."""
    if name.endswith(".csv"):
        for row in csv.reader(io.StringIO(data.decode())):
            yield from filter(None, row)
    else:
        yield from _leaves(json.loads(data))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value != "":
        yield str(value)


def manifest_csv(rows: Iterable[dict[str, Any]], *, with_diagnoses: bool) -> bytes:
    """Return the manifest as CSV."""
    columns = (*COLUMNS, *(DIAGNOSIS_COLUMNS if with_diagnoses else ()))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def manifest_json(rows: list[dict[str, Any]], *, project: str) -> bytes:
    """Return the manifest as JSON, with the options and the counts."""
    return json.dumps(
        {
            "format": "deidentified-dicom-export/1",
            "project": project,
            "profile": "DICOM PS3.15 Annex E",
            "options": [{"code": code, "meaning": meaning} for code, meaning in OPTIONS],
            "left_out": ["LABEL", "OVERVIEW", "THUMBNAIL"],
            "patients": len({row["patient"] for row in rows}),
            "slides": len({row["series_instance_uid"] for row in rows}),
            "instances": rows,
        },
        indent=1,
    ).encode()
