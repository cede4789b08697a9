"""Builds the header of an exported instance from the allowlist (`rules`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from cases.wsi.deidentify.icc import clean_profile
from cases.wsi.deidentify.rules import OPTIONS, TABLE, Rule
from cases.wsi.deidentify.subject import Pseudonyms
from cases.wsi.deidentify.vocabulary import MANUFACTURERS, MODELS, Concept, concept_of, one_of
from cases.wsi.errors import UnsupportedImageError

# What a step of the preparation may say (PS3.16 TID 8001 to 8004), by the concept of its name.
STEP_NAMES = frozenset(
    (
        "111701",  # Processing type
        "424361007",  # Using substance
        "430864009",  # Tissue fixative
        "430863003",  # Embedding medium
        "17636008",  # Specimen collection
    )
)
SPECIMEN_IDENTIFIER = Concept("121041", "DCM", "Specimen Identifier")
_NUMERIC = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"))


class Identifying(UnsupportedImageError):
    """The picture itself shows who the patient is, so that no header can hide it."""

    code = "burned_in"
    message = "The image says that its pixels show the label or identifying text."


def require_clean_pixels(header: Dataset) -> None:
    """Raise Identifying when an image of tissue says that its pixels identify somebody."""
    for keyword in ("BurnedInAnnotation", "SpecimenLabelInImage"):
        if str(header.get(keyword, "") or "").strip().upper() == "YES":
            raise Identifying


def rebuild(header: Dataset, names: Pseudonyms, *, instance_number: int) -> Dataset:
    """Return the exported header of an instance, without pixel data.

    Parameters
    ----------
    header
        The source's, of a VOLUME instance.
    names
        The pseudonyms of its slide.
    instance_number
        Its new number in the series.

    Raises
    ------
    WsiError
        `burned_in` when its pixels are said to identify somebody.
    """
    require_clean_pixels(header)
    made = _Builder(names, instance_number).build(header, TABLE)
    if str(made.get("DimensionOrganizationType", "")) == "TILED_FULL":
        made.pop("PerFrameFunctionalGroupsSequence", None)
    made.DeidentificationMethodCodeSequence = Sequence(
        [_item(Concept(value, "DCM", meaning)) for value, meaning in OPTIONS]
    )
    return made


def _item(concept: Concept) -> Dataset:
    item = Dataset()
    item.CodeValue = concept.value
    item.CodingSchemeDesignator = concept.scheme
    item.CodeMeaning = concept.meaning
    return item


class _Builder:
    """Applies rules; one for each instance."""

    def __init__(self, names: Pseudonyms, instance_number: int) -> None:
        self.names = names
        self.instance_number = instance_number
        self.kinds: dict[str, Callable[[Rule, DataElement | None], Any]] = {
            "number": self._number,
            "word": self._word,
            "tag": self._tag,
            "uid": self._uid,
            "date": lambda rule, old: names.date(_text(old)),
            "midnight": lambda rule, old: "000000",
            "moment": self._moment,
            "empty": lambda rule, old: "",
            "constant": lambda rule, old: rule.words[0] if rule.words else None,
            "patient": lambda rule, old: names.patient,
            "case": lambda rule, old: names.case,
            "container": lambda rule, old: names.container,
            "specimen": lambda rule, old: names.specimen,
            "device": lambda rule, old: names.device(_text(old)),
            "maker": lambda rule, old: one_of(_text(old), MANUFACTURERS),
            "model": lambda rule, old: one_of(_text(old), MODELS),
            "position": lambda rule, old: self.instance_number,
            "path": lambda rule, old: names.path(_text(old)),
            "codes": self._codes,
            "steps": self._steps,
            "profile": lambda rule, old: clean_profile(bytes(old.value or b"")) if old else _DROP,
            "items": self._items,
        }

    def build(self, source: Dataset, table: Mapping[str, Rule]) -> Dataset:
        """Return a new dataset that holds what the table allows of the source."""
        made = Dataset()
        for keyword in table:
            rule = table[keyword]
            old = source[keyword] if keyword in source else None  # noqa: SIM401
            if old is None and not rule.always:
                continue
            value = self.kinds[rule.kind](rule, old)
            if value == "" and dictionary_VR(tag_for_keyword(keyword) or 0) == "SQ":
                value = Sequence()
            if value is not _DROP:
                setattr(made, keyword, value)
        return made

    def _number(self, rule: Rule, old: DataElement | None) -> Any:
        assert old is not None
        if old.VR not in _NUMERIC:
            return _DROP
        values = list(old.value) if isinstance(old.value, MultiValue | list) else [old.value]
        try:
            if old.VR == "DS":
                numbers: list[Any] = [f"{float(value):.10g}" for value in values]
            elif old.VR in ("FL", "FD"):
                numbers = [float(value) for value in values]
            else:
                numbers = [int(value) for value in values]
        except (TypeError, ValueError):
            return _DROP
        return numbers if len(numbers) > 1 else numbers[0]

    def _word(self, rule: Rule, old: DataElement | None) -> Any:
        words = _values(old)
        kept = [word for word in words if word in rule.words]
        # A word that is not known makes the whole value one that is not known.
        return _DROP if not words or len(kept) < len(words) else kept if len(kept) > 1 else kept[0]

    def _tag(self, rule: Rule, old: DataElement | None) -> Any:
        assert old is not None
        values = old.value if isinstance(old.value, MultiValue | list) else [old.value]
        tags = [BaseTag(value) for value in values if value is not None]
        known = [tag for tag in tags if not tag.is_private and keyword_for_tag(tag)]
        if not known or len(known) < len(tags):
            return _DROP
        return known if len(known) > 1 else known[0]

    def _uid(self, rule: Rule, old: DataElement | None) -> Any:
        text = _text(old)
        return self.names.uid(text) if text else _DROP

    def _moment(self, rule: Rule, old: DataElement | None) -> Any:
        day = self.names.date(_text(old))
        return self.names._give(f"{day}000000") if day else _DROP

    def _codes(self, rule: Rule, old: DataElement | None) -> Any:
        found = [concept_of(item) for item in _sequence(old)]
        kept = [_item(concept) for concept in found if concept is not None]
        return Sequence(kept) if kept or rule.always else _DROP

    def _items(self, rule: Rule, old: DataElement | None) -> Any:
        items = [self.build(item, rule.items) for item in _sequence(old)]
        if not items and rule.always:
            items = [self.build(Dataset(), rule.items)]
        return Sequence(items) if items else _DROP

    def _steps(self, rule: Rule, old: DataElement | None) -> Any:
        steps = []
        for step in _sequence(old):
            content = step.get("SpecimenPreparationStepContentItemSequence") or ()
            items = [item for item in map(_step_item, content) if item is not None]
            if not items:
                continue
            made = Dataset()
            made.SpecimenPreparationStepContentItemSequence = Sequence(
                [_identifier_item(self.names.specimen), *items]
            )
            steps.append(made)
        return Sequence(steps)


class _Drop:
    """Marks a value that is left out."""


_DROP = _Drop()


def _text(old: DataElement | None) -> str:
    """Return the first value as text."""
    return next(iter(_values(old)), "")


def _values(old: DataElement | None) -> list[str]:
    if old is None or old.value is None or old.VR == "SQ":
        return []
    values = old.value if isinstance(old.value, MultiValue | list) else [old.value]
    return [str(value).strip() for value in values if str(value).strip()]


def _sequence(old: DataElement | None) -> list[Dataset]:
    return list(old.value or ()) if old is not None and old.VR == "SQ" else []


def _step_item(item: Dataset) -> Dataset | None:
    """Return a coded statement about the preparation, or None for any other."""
    if str(item.get("ValueType", "")).strip() != "CODE":
        return None
    names = list(item.get("ConceptNameCodeSequence") or [])
    values = list(item.get("ConceptCodeSequence") or [])
    if len(names) != 1 or len(values) != 1:
        return None
    name, value = concept_of(names[0]), concept_of(values[0])
    if name is None or value is None or name.value not in STEP_NAMES:
        return None
    made = Dataset()
    made.ValueType = "CODE"
    made.ConceptNameCodeSequence = Sequence([_item(name)])
    made.ConceptCodeSequence = Sequence([_item(value)])
    return made


def _identifier_item(pseudonym: str) -> Dataset:
    """Return the statement whose specimen a step is of (PS3.16 TID 8001, row 1)."""
    made = Dataset()
    made.ValueType = "TEXT"
    made.ConceptNameCodeSequence = Sequence([_item(SPECIMEN_IDENTIFIER)])
    made.TextValue = pseudonym
    return made
