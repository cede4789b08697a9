"""What changed between two versions of a report, section by section, word by word."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from django.utils.translation import gettext_lazy as _

from cases.models import Report

SECTIONS = (
    ("diagnosis_line", _("Diagnosis in one line")),
    ("diagnosis_code", _("Code")),
    ("diagnosis_text", _("Diagnosis")),
    ("microscopic_description", _("Microscopic description")),
    ("gross_description", _("Gross description")),
    ("comment", _("Comment")),
)
# Comparing takes time with the square of the length; longer texts are compared by line.
WORDS_MOST = 2000
_WORDS = re.compile(r"\s+|[^\s\w]|\w+")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class Piece:
    """A run of text: the same in both, or only in one of them."""

    text: str
    is_changed: bool


@dataclass(frozen=True)
class SectionChange:
    """A section that differs, as it was and as it is."""

    label: str
    before: list[Piece]
    after: list[Piece]


@dataclass(frozen=True)
class ReportChange:
    """A version and what it changed of the one before."""

    older: Report
    newer: Report
    sections: list[SectionChange]
    status_changed: bool


def report_changes(reports: list[Report]) -> list[ReportChange]:
    """Return what each version changed, the newest first. reports: newest first."""
    return [
        ReportChange(older, newer, list(_sections(older, newer)), older.status != newer.status)
        for newer, older in pairwise(reports)
    ]


def _sections(older: Report, newer: Report) -> Iterator[SectionChange]:
    for field, label in SECTIONS:
        before, after = getattr(older, field), getattr(newer, field)
        if before != after:
            yield SectionChange(str(label), *compare(before, after))


def compare(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in runs, with what is only in one of them marked."""
    split = _WORDS
    if max(len(_WORDS.findall(before)), len(_WORDS.findall(after))) > WORDS_MOST:
        split = _LINES
    old, new = split.findall(before), split.findall(after)
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if i2 > i1:
            left.append(Piece("".join(old[i1:i2]), kind != "equal"))
        if j2 > j1:
            right.append(Piece("".join(new[j1:j2]), kind != "equal"))
    return left, right
