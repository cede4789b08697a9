"""The words that may stay: coded concepts of the standard, and makers of scanners.

A code stays only if PS3.16 knows it, and its meaning is then taken from there and not from the
source: free text cannot travel as the meaning of a code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydicom.dataset import Dataset

# pydicom generates these tables from PS3.16; the public `codes` cannot be asked by value.
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

SCHEMES = ("SCT", "DCM", "UCUM")
UNKNOWN = "Unknown"

# As they write themselves in headers, compared without case.
MANUFACTURERS = (
    "3DHISTECH", "Aperio", "DMetrix", "Evident", "Grundium", "Hamamatsu", "Hamamatsu Photonics",
    "Huron", "Huron Digital Pathology", "KFBIO", "Leica", "Leica Biosystems", "Motic", "Olympus",
    "Optrascan", "PathSearch demo generator (synthetic)", "Philips", "Pramana", "Roche",
    "Sakura", "Trestle", "Ventana", "Ventana Medical Systems", "Zeiss", "Carl Zeiss", UNKNOWN,
)  # fmt: skip
MODELS = (
    "Aperio AT2", "Aperio CS2", "Aperio GT 450", "Aperio GT 450 DX", "Aperio GT450",
    "Aperio Image Library", "Aperio LV1", "Aperio ScanScope", "Aperio VERSA", "Axioscan 7",
    "Axioscan.Z1", "iScan Coreo", "iScan HT", "IntelliSite Ultra Fast Scanner", "NanoZoomer",
    "NanoZoomer 2.0-HT", "NanoZoomer S20", "NanoZoomer S210", "NanoZoomer S360",
    "NanoZoomer S60", "NanoZoomer XR", "Ocus", "Ocus40", "Pannoramic 1000", "Pannoramic 250",
    "Pannoramic DESK", "Pannoramic MIDI", "Pannoramic SCAN", "ScanScope", "SCN400", "SCN400F",
    "SpectralHT", "TissueScope LE", "Ultra Fast Scanner", "Ventana DP 200", "Ventana DP 600",
    "VENTANA DP 200", "VENTANA DP 600", "VS120", "VS200", "Demo 40", "Demo 20", UNKNOWN,
)  # fmt: skip


@dataclass(frozen=True)
class Concept:
    """A coded concept with the standard's own meaning."""

    value: str
    scheme: str
    meaning: str


@cache
def _known() -> dict[tuple[str, str], str]:
    """Return the meaning of each (scheme, value) of the standard, the shortest of several."""
    found: dict[tuple[str, str], str] = {}
    for scheme in SCHEMES:
        keywords: dict[str, dict[str, tuple[str, list[int]]]] = concepts[scheme]  # type: ignore[assignment]
        for values in keywords.values():
            for value, (meaning, _groups) in values.items():
                known = found.get((scheme, value))
                if known is None or len(meaning) < len(known):
                    found[scheme, value] = meaning
    return found


@cache
def _by_meaning() -> dict[str, Concept]:
    return {
        meaning.casefold(): Concept(value, scheme, meaning)
        for (scheme, value), meaning in _known().items()
        if scheme == "SCT"
    }


def concept_of(item: Dataset) -> Concept | None:
    """Return the known concept that an item of a code sequence (PS3.3 8.8) stands for, or None.

    Old SNOMED codes (SRT, 99SDM) are told by the numbers that replaced them.
    """
    scheme = str(item.get("CodingSchemeDesignator", "") or "").strip()
    value = str(item.get("CodeValue", "") or "").strip()
    if scheme in ("SRT", "99SDM", "SNM3"):
        scheme, value = "SCT", mapping["SRT"].get(value, "")
    if len(value) > 16:  # a longer one belongs into LongCodeValue, which none here needs
        return None
    meaning = _known().get((scheme, value))
    return Concept(value, scheme, meaning[:64]) if meaning else None


def concept_by_meaning(text: str) -> Concept | None:
    """Return the SNOMED CT concept that has this meaning, compared without case."""
    found = _by_meaning().get(text.strip().casefold())
    return found if found and len(found.value) <= 16 and len(found.meaning) <= 64 else None


def is_concept(item: Dataset) -> bool:
    """Return whether an item is exactly a known concept and says nothing else."""
    found = concept_of(item)
    return (
        found is not None
        and set(item.dir()) == {"CodeValue", "CodingSchemeDesignator", "CodeMeaning"}
        and len(item) == 3
        and Concept(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning) == found
    )


def one_of(value: str, words: tuple[str, ...]) -> str:
    """Return the known word that equals the value without case, or Unknown."""
    wanted = " ".join(value.split()).casefold()
    return next((word for word in words if word.casefold() == wanted), UNKNOWN)


@cache
def words() -> frozenset[str]:
    """Return all words that may stay, casefolded: values, schemes, meanings, makers, models."""
    found = {*SCHEMES, *MANUFACTURERS, *MODELS}
    for (_scheme, value), meaning in _known().items():
        found.update((value, meaning[:64]))
    return frozenset(word.casefold() for word in found)
