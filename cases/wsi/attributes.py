"""What of a header is searched by DICOMweb: small values in the DICOM JSON model.

PS3.18 Annex F. Pixels, profiles, per-frame positions and anything long are left out, so that the
database can hold and match the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset

from cases.wsi.metadata import dataset_json

MAX_TEXT = 1024
MAX_VALUES = 64
MAX_DEPTH = 8
MAX_BYTES = 128 * 1024
_LEFT_OUT = frozenset(("7FE00010", "52009230"))
_BINARY = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))


def searchable(dataset: Dataset) -> dict[str, Any]:
    """Return the searchable part of a header, as values that a JSON column takes."""
    told = _items(dataset_json(dataset, ""), 0)
    if len(json.dumps(told)) > MAX_BYTES:
        told = {tag: value for tag, value in told.items() if value["vr"] != "SQ"}
    return told if len(json.dumps(told)) <= MAX_BYTES else {}


def _items(told: Mapping[str, Any], depth: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for tag, element in told.items():
        if tag in _LEFT_OUT or element["vr"] in _BINARY or "Value" not in element:
            continue
        values = element["Value"][:MAX_VALUES]
        if element["vr"] == "SQ":
            if depth >= MAX_DEPTH:
                continue
            values = [_items(item or {}, depth + 1) for item in values]
        else:
            values = [_clean(value) for value in values]
        kept[tag] = {"vr": element["vr"], "Value": values}
    return kept


def _clean(value: Any) -> Any:
    """Return a value without what the database's JSON refuses."""
    if isinstance(value, Mapping):
        return {str(key): _clean(one) for key, one in value.items()}
    if isinstance(value, str):
        text = value.replace("\x00", "")[:MAX_TEXT]
        return text.encode("utf-8", "replace").decode("utf-8")
    return value
