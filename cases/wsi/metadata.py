"""The DICOM JSON model of an instance's header (PS3.18 Annex F), kept as compressed parts.

Values longer than `INLINE_BYTES` are told by address. The address begins with the site's own,
which is known only when somebody asks, so the text is cut there: parts alternate between text
and the gap for `https://host/dicomweb`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from cases.wsi.errors import CorruptError
from cases.wsi.splice import Part, compressed, gzip_of, pack, stored, unpack

INLINE_BYTES = 1024
PIXEL_DATA = 0x7FE00010
PIXEL_TAGS = ((PIXEL_DATA, "OW"), (0x7FE00008, "OF"), (0x7FE00009, "OD"))
"""Pixel Data, Float Pixel Data (32 bit), Double Float Pixel Data (64 bit)."""

_AVAILABLE_TRANSFER_SYNTAX = "00083002"
_CHARACTER_SET = "00080005"
_GAP = "\x00\x01BASE\x01\x00"
"""Stands for the site's address in the text; JSON escapes control characters in values."""

_BULK_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "UN"))
_MARK = json.dumps(_GAP)[1:-1].encode()


def instance_path(dataset: Dataset) -> str:
    """Return the address of an instance below the DICOMweb root."""
    return (
        f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
        f"/instances/{dataset.SOPInstanceUID}"
    )


def dataset_json(dataset: Dataset, path: str) -> dict[str, Any]:
    """Return the dataset in the DICOM JSON model.

    Parameters
    ----------
    dataset
        The header without pixel data.
    path
        Address of the instance below the DICOMweb root: `/studies/1/series/2/instances/3`.
    """
    result = _items(dataset, f"{_GAP}{path}/bulkdata", ())
    if _CHARACTER_SET in result:
        # JSON is UTF-8 whatever the file was (PS3.18 F.2).
        result[_CHARACTER_SET] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))
    if syntax:
        result[_AVAILABLE_TRANSFER_SYNTAX] = {"vr": "UI", "Value": [syntax]}
    if "Rows" in dataset:  # annotations have no pixels
        bits = int(dataset.get("BitsAllocated") or 8)
        tag, vr = {32: PIXEL_TAGS[1], 64: PIXEL_TAGS[2]}.get(bits, (PIXEL_DATA, "OW"))
        result[f"{tag:08X}"] = {
            "vr": "OB" if bits <= 8 else vr,
            "BulkDataURI": f"{_GAP}{path}/bulkdata/{tag:08X}",
        }
    return dict(sorted(result.items()))


def metadata_parts(dataset: Dataset, path: str) -> bytes:
    """Return the packed parts of `dataset_json`.

    Raises
    ------
    CorruptError
        When the header nests deeper than anything can be written.
    """
    try:
        text = json.dumps(dataset_json(dataset, path), separators=(",", ":"), allow_nan=False)
    except RecursionError as error:
        raise CorruptError("The DICOM header nests too deeply.") from error
    return pack([compressed(piece) for piece in text.encode().split(_MARK)])


def list_of(instances: Sequence[bytes], base: str) -> Iterator[Part]:
    """Return the parts of a JSON list of packed instances, the gaps filled with `base`."""
    address = stored(base.encode())
    yield stored(b"[")
    for number, packed in enumerate(instances):
        if number:
            yield stored(b",")
        for place, part in enumerate(unpack(packed)):
            if place:
                yield address
            yield part
    yield stored(b"]")


def list_gzip(instances: Sequence[bytes], base: str) -> bytes:
    """Return the JSON list as gzip, compressing nothing again."""
    return gzip_of(list_of(instances, base))


def list_text(instances: Sequence[bytes], base: str) -> bytes:
    """Return the JSON list as it is, for clients that take no gzip."""
    address = base.encode()
    texts = (address.join(part.text() for part in unpack(packed)) for packed in instances)
    return b"[" + b",".join(texts) + b"]"


def _items(dataset: Dataset, address: str, above: tuple[str, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for tag in list(dataset.keys()):
        if tag.element == 0 or tag.group <= 2 or tag == PIXEL_DATA:
            continue  # group lengths and the file's own business
        raw = dataset.get_item(tag)
        key = f"{tag:08X}"
        try:
            result[key] = _element(dataset[tag], address, (*above, key))
        except (RecursionError, MemoryError):
            raise
        except Exception:  # a value that is not of its VR: as bytes, so that nothing is lost
            value = raw.value if isinstance(raw, RawDataElement) else None
            result[key] = {"vr": "UN"}
            if value and len(value) <= INLINE_BYTES:
                result[key]["InlineBinary"] = base64.b64encode(value).decode()
            elif value:
                result[key]["BulkDataURI"] = "/".join((address, *above, key))
    return result


def _element(element: DataElement, address: str, path: tuple[str, ...]) -> dict[str, Any]:
    if element.VR == "SQ":
        items = [
            _items(item, address, (*path, str(number))) for number, item in enumerate(element.value)
        ]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    value = element.value
    if element.VR in _BULK_VRS and isinstance(value, bytes) and len(value) > INLINE_BYTES:
        return {"vr": element.VR, "BulkDataURI": "/".join((address, *path))}
    told: dict[str, Any] = element.to_json_dict(None, 0)
    if "Value" in told:
        told["Value"] = [_number(one) for one in told["Value"]]
        if told["Value"] == [""]:
            del told["Value"]
    return told


def _number(value: Any) -> Any:
    """Return the value; numbers that JSON does not know as the texts of PS3.18 F.2.3."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def bulk_value(dataset: Dataset, path: str) -> bytes:
    """Return the value at the end of a bulk data address: `00480105/0/00282000`.

    Raises
    ------
    KeyError
        When there is none, or it is no value of bytes.
    """
    *above, last = path.split("/")
    if len(above) % 2 or len(above) > 32:
        raise KeyError(path)
    for tag, number in zip(above[::2], above[1::2], strict=True):
        sequence = dataset.get(_tag(tag))
        is_number = number.isdecimal() and len(number) < 10
        if sequence is None or sequence.VR != "SQ" or not is_number:
            raise KeyError(path)
        if int(number) >= len(sequence.value):
            raise KeyError(path)
        dataset = sequence.value[int(number)]
    wanted = _tag(last)
    if wanted not in dataset or wanted == PIXEL_DATA:
        raise KeyError(path)
    raw = dataset.get_item(wanted)
    if dataset[wanted].VR == "SQ":
        raise KeyError(path)
    value = raw.value if isinstance(raw, RawDataElement) else dataset[wanted].value
    if not isinstance(value, bytes):
        raise KeyError(path)
    return value


def _tag(text: str) -> BaseTag:
    if len(text) != 8:
        raise KeyError(text)
    try:
        return Tag(int(text, 16))
    except ValueError as error:
        raise KeyError(text) from error
