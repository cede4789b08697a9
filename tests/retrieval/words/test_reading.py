"""Sections, spelling errors, and reports as the search sees them."""

import pytest

from retrieval.engine.words.reading import read_report, searchable
from retrieval.engine.words.sections import sections_of
from retrieval.engine.words.spelling import correction, distance, similarity
from retrieval.engine.words.terms import built_in

REPORT = """CLINICAL HISTORY: Mass, r/o lymphoma.
GROSS DESCRIPTION:
A tan nodule.
MICROSCOPIC DESCRIPTION: Sheets of cells. No necrosis.
FINAL DIAGNOSIS:
Left lung: adenocarcinoma, G2.
COMMENT: TTF-1 positive."""


def test_headings_part_a_report():
    found = sections_of(REPORT, "A")
    assert [weight for weight, _text in found] == ["C", "D", "B", "A", "B"]
    assert "nodule" in found[1][1]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("Makroskopie: Haut.\nMikroskopie: Zellen.\nDiagnose: Basaliom.", ["D", "B", "A"]),
        ("Klinische Angaben\nKnoten\nBeurteilung\nKarzinom", ["C", "A"]),
        ("no heading here: none", ["B"]),
        ("words first. DIAGNOSIS: carcinoma GROSS: mass", ["B", "A", "D"]),
        ("the gross specimen: large", ["B"]),
        ("", []),
    ],
)
def test_headings_of_other_reports(text, weights):
    assert [weight for weight, _text in sections_of(text, "B")] == weights


def test_a_report_is_read_by_section_and_by_what_it_denies():
    read = read_report([("A", REPORT)], codes=["8140/3", "254626006"])
    assert "x0left lung adenocarcinoma x0grade2" in read.affirmed["A"]
    assert "x0code8140s3" in read.affirmed["A"].split()
    assert "254626006" in read.affirmed["A"].split()
    assert "necrosis" in read.denied["B"].split()
    assert "necrosis" not in read.affirmed["B"].split()
    everywhere = " ".join([*read.affirmed.values(), *read.denied.values()])
    assert "lymphoma" not in everywhere.split()  # left open


def test_spellings_that_differ_are_stored_alike():
    assert searchable("HER-2/neu") == searchable("her2 neu").replace("her2", "her 2")
    assert searchable("Non-Small-Cell") == "non small cell"
    assert searchable("haemorrhagic tumour") == "hemorrhagic tumor"
    assert searchable("Ödem") == searchable("Oedem")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("carcnoma", "carcinoma"),
        ("adenocarcinmoa", "adenocarcinoma"),
        ("squamuos", "squamous"),
        ("melanma", "melanoma"),
        ("necrossis", "necrosis"),
        ("hepatocelular", "hepatocellular"),
        ("lobuler", "lobular"),
        ("banana", None),
        ("carcinoma", None),
        ("abc", None),
        ("TTF1", None),
        ("zzzxxy", None),
    ],
)
def test_typing_errors(typed, meant):
    assert correction(typed, built_in().vocabulary) == meant


def test_trigrams_are_padded_as_pg_trgm_does():
    assert similarity("word", "two") == 0
    assert similarity("cell", "cells") == pytest.approx(4 / 7)
    assert distance("squamuos", "squamous") == 1
