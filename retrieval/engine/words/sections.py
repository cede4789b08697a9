"""The sections of a report that came as one text, by their headings, English and German.

The weights are Postgres' own letters: A diagnosis, B microscopy and comment, C clinical
history, D gross description, so that a diagnosis counts before a remark of the referrer.
"""

import re

DIAGNOSIS, MICROSCOPY, HISTORY, GROSS = "A", "B", "C", "D"
WEIGHTS = (DIAGNOSIS, MICROSCOPY, HISTORY, GROSS)

HEADINGS: dict[str, tuple[str, ...]] = {
    DIAGNOSIS: (
        "diagnosis",
        "diagnoses",
        "final diagnosis",
        "final diagnoses",
        "final pathologic diagnosis",
        "final pathological diagnosis",
        "pathologic diagnosis",
        "pathological diagnosis",
        "pathology diagnosis",
        "histologic diagnosis",
        "histological diagnosis",
        "histopathological diagnosis",
        "anatomic diagnosis",
        "main diagnosis",
        "addendum diagnosis",
        "amended diagnosis",
        "microscopic diagnosis",
        "diagnosis summary",
        "interpretation",
        "conclusion",
        "impression",
        "synoptic report",
        "synoptic summary",
        "diagnose",
        "diagnosen",
        "hauptdiagnose",
        "beurteilung",
        "kritischer bericht",
        "kritische stellungnahme",
        "zusammenfassung",
        "epikrise",
        "pathologisch-anatomische diagnose",
    ),
    MICROSCOPY: (
        "microscopic",
        "microscopy",
        "microscopic description",
        "microscopic examination",
        "microscopic findings",
        "histology",
        "histologic description",
        "histological description",
        "comment",
        "comments",
        "note",
        "immunohistochemistry",
        "immunohistochemical findings",
        "immunohistochemical stains",
        "special stains",
        "molecular findings",
        "ancillary studies",
        "addendum",
        "addendum report",
        "mikroskopie",
        "mikroskopisch",
        "mikroskopischer befund",
        "mikroskopische beschreibung",
        "histologie",
        "immunhistochemie",
        "immunhistologie",
        "molekularpathologie",
        "kommentar",
        "nachtrag",
    ),
    HISTORY: (
        "clinical history",
        "clinical information",
        "clinical data",
        "clinical diagnosis",
        "clinical diagnosis and history",
        "clinical history and pre-op dx",
        "clinical notes",
        "clinical details",
        "history",
        "patient history",
        "indication",
        "preoperative diagnosis",
        "pre-operative diagnosis",
        "pre-op diagnosis",
        "postoperative diagnosis",
        "post-operative diagnosis",
        "reason for exam",
        "klinische angaben",
        "klinische diagnose",
        "klinik",
        "klinische fragestellung",
        "fragestellung",
        "anamnese",
    ),
    GROSS: (
        "gross",
        "gross description",
        "gross pathology",
        "gross examination",
        "gross findings",
        "macroscopic",
        "macroscopy",
        "macroscopic description",
        "macroscopic examination",
        "specimen description",
        "specimens submitted",
        "specimen submitted",
        "specimen",
        "specimens",
        "specimen(s)",
        "specimen(s) submitted",
        "specimen received",
        "operation/specimen",
        "summary of sections",
        "cassette summary",
        "block summary",
        "intraoperative consultation",
        "intraoperative consultation diagnosis",
        "frozen section",
        "frozen section diagnosis",
        "makroskopie",
        "makroskopisch",
        "makroskopischer befund",
        "makroskopische beschreibung",
        "material",
        "eingesandtes material",
    ),
}
_WEIGHT_OF = {name: weight for weight, names in HEADINGS.items() for name in names}
_NAMES = "|".join(
    re.escape(name).replace(r"\ ", r"[ \t]+") for name in sorted(_WEIGHT_OF, key=len, reverse=True)
)
# At the begin of a line with a colon or alone on it; in capitals with a colon also within a line,
# because scanned reports lose their line breaks.
_HEADING = re.compile(
    rf"(?:^|\n)[ \t/*]*(?:[A-Z0-9][.)][ \t]*)?({_NAMES})[ \t]*(?::|-(?=\s)|(?=\n|$))", re.IGNORECASE
)
_WITHIN = re.compile(rf"(?<=[.\s])({_NAMES})(?:\(S\))?[ \t]*:", re.IGNORECASE)


def sections_of(text: str, default: str) -> list[tuple[str, str]]:
    """Return (weight, text) of each section in order; before the first heading `default`.

    A heading stays with its section: what it says is found by, too.
    """
    places: dict[int, str] = {}
    end = 0
    matches = [*_HEADING.finditer(text), *(m for m in _WITHIN.finditer(text) if m[1].isupper())]
    for match in sorted(matches, key=lambda m: (m.start(1), -m.end(1))):
        if match.start(1) >= end:  # not the "HISTORY" of a "CLINICAL HISTORY"
            places[match.start(1)] = _weight(match.group(1))
            end = match.end(1)
    if not places:
        return [(default, text)] if text.strip() else []
    starts = sorted(places)
    found = [(default, text[: starts[0]])]
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        found.append((places[start], text[start:stop]))
    return [(weight, part) for weight, part in found if part.strip()]


def _weight(heading: str) -> str:
    return _WEIGHT_OF[" ".join(heading.lower().split())]
