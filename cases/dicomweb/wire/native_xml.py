"""DICOM JSON (PS3.18 Annex F) as the Native DICOM Model in XML (PS3.19 A.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from pydicom.datadict import keyword_for_tag

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")

DicomJson = Mapping[str, Any]


def to_xml(dataset: DicomJson) -> bytes:
    """Return the XML document of a dataset in the DICOM JSON model."""
    root = Element("NativeDicomModel", {"xmlns": NAMESPACE, "xml:space": "preserve"})
    _fill(root, dataset)
    return tostring(root, encoding="utf-8", xml_declaration=True)


def _fill(parent: Element, dataset: DicomJson) -> None:
    for tag in sorted(dataset):
        attribute = dataset[tag]
        names = {"tag": tag, "vr": str(attribute["vr"])}
        if keyword := keyword_for_tag(tag):
            names["keyword"] = keyword
        element = SubElement(parent, "DicomAttribute", names)
        if "BulkDataURI" in attribute:
            SubElement(element, "BulkData", {"uri": str(attribute["BulkDataURI"])})
        elif "InlineBinary" in attribute:
            SubElement(element, "InlineBinary").text = str(attribute["InlineBinary"])
        for number, value in enumerate(attribute.get("Value", ()), start=1):
            _value(element, str(number), str(attribute["vr"]), value)


def _value(parent: Element, number: str, vr: str, value: Any) -> None:
    if vr == "SQ":
        _fill(SubElement(parent, "Item", {"number": number}), value or {})
    elif vr == "PN":
        person = SubElement(parent, "PersonName", {"number": number})
        for group, text in (value or {}).items():
            element = SubElement(person, str(group))
            for name, part in zip(_NAME_PARTS, str(text).split("^"), strict=False):
                if part:
                    SubElement(element, name).text = _clean(part)
    else:
        text = "" if value is None else _clean(str(value))
        SubElement(parent, "Value", {"number": number}).text = text


def _clean(text: str) -> str:
    """Leave out what XML cannot hold."""
    return "".join(
        c for c in text if c in "\t\n\r" or (c >= " " and not 0xFFFE <= ord(c) <= 0xFFFF)
    )
