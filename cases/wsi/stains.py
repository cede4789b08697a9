"""The stain, as the specimen preparation of a DICOM header tells it (PS3.3 C.7.6.22.1)."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from cases.wsi.values import clean_text

_USING_SUBSTANCE = "424361007"  # SNOMED CT: a step's substance
_PROCESSING_TYPE = "111701"  # DCM
_STAINING = frozenset(("127790008", "P3-00003"))  # SNOMED CT and SRT: staining


def stain_of(dataset: Dataset) -> str:
    """Return the stain as pathologists write it, `H&E` for the usual pair; empty if unsaid."""
    substances: list[str] = []
    for specimen in dataset.get("SpecimenDescriptionSequence") or ():
        for step in specimen.get("SpecimenPreparationSequence") or ():
            items = list(step.get("SpecimenPreparationStepContentItemSequence") or ())
            is_staining = any(
                _code(item) == _PROCESSING_TYPE and _value_code(item) in _STAINING for item in items
            )
            for item in items:
                names_stain = "stain" in _name(item).casefold()
                if names_stain or (is_staining and _code(item) == _USING_SUBSTANCE):
                    substances.append(_value(item))
    unique = [text for text in dict.fromkeys(substances) if text]
    return _usual_name(unique)


def _usual_name(substances: list[str]) -> str:
    """Return one name for a list of substances."""
    folded = [text.casefold() for text in substances]
    has_hematoxylin = any("hematoxylin" in text or "haematoxylin" in text for text in folded)
    has_eosin = any("eosin" in text for text in folded)
    if has_hematoxylin and has_eosin and len(folded) <= 2:
        return "H&E"
    if len(folded) == 1 and folded[0] in {"h&e", "h & e", "h+e", "he", "h and e"}:
        return "H&E"
    return " + ".join(substances)[:80]


def _first_code(item: Any, sequence: str, attribute: str) -> str:
    for code in item.get(sequence) or ():
        return clean_text(code.get(attribute), 80)
    return ""


def _code(item: Any) -> str:
    return _first_code(item, "ConceptNameCodeSequence", "CodeValue")


def _name(item: Any) -> str:
    return _first_code(item, "ConceptNameCodeSequence", "CodeMeaning")


def _value_code(item: Any) -> str:
    return _first_code(item, "ConceptCodeSequence", "CodeValue")


def _value(item: Any) -> str:
    return clean_text(item.get("TextValue"), 80) or _first_code(
        item, "ConceptCodeSequence", "CodeMeaning"
    )
