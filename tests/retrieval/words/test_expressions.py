"""Grades, stages, sides and codes, however they are written."""

import pytest

from retrieval.engine.words.expressions import asked_parts, expressions_of, isup_of

WRITTEN = {
    "x0grade3": ["G3", "grade 3", "Grade III", "poorly differentiated", "histologic grade: 3",
                 "Nottingham grade 3", "Nottingham histologic score: 8/9", "Fuhrman grade 3",
                 "moderately to poorly differentiated", "schlecht differenziert", "G2-3", "G2/3"],
    "x0grade1": ["well-differentiated", "grade 1", "FIGO grade I", "Nottingham score 5"],
    "x0gradehigh": ["high grade", "high-grade", "high histological grade", "high nuclear grade"],
    "x0who4": ["WHO grade IV", "WHO GRADE IV/IV", "CNS WHO grade 4"],
    "x0isup2": ["Gleason 3+4", "Gleason score 3 + 4 = 7", "3+4=7", "grade group 2",
                "ISUP grade 2", "Gleason grade group 2"],
    "x0isup3": ["Gleason 4+3=7"],
    "x0gleason7": ["Gleason score 7", "Gleason 3+4", "Gleason sum 7/10"],
    "x0t2": ["pT2", "pT2 N1 M0", "pT2N0MX", "ypT2a pN1", "T2 N0", "PT2", "pT2b"],
    "x0n1": ["pN1", "pT2N1M0", "pN1a(sn)", "ypT1 ypN1", "pT1c, pN1, pMX"],
    "x0n0": ["pNO", "pT2 pN0 (0/12)"],
    "x0tis": ["pTis", "pTis N0"],
    "x0stage3a": ["stage IIIA", "Stage 3a", "AJCC stage IIIA", "Stadium IIIa"],
    "x0stage3": ["stage III", "stage IIIB"],
    "x0left": ["left", "Left-sided", "links", "Lt. breast", "(L) breast", "bilateral"],
    "x0right": ["RIGHT", "rechte Niere", "beidseits"],
    "x0code8140s3": ["8140/3", "M8140/3", "M-81403", "ICD-O 8140/3"],
    "x0codec34d1": ["C34.1", "C 34.1"],
}  # fmt: skip

# Not what it seems, in a report.
INNOCENT = [
    "T2 weighted image",
    "vertebra T2",
    "block A1, C12",
    "0.4 x 3.1 cm",
    "grade school",
    "stage is not given",
    "3+4 nodes",
    "2019/3",
    "a leftover",
    "8140 cells",
]


@pytest.mark.parametrize("tag", WRITTEN)
def test_all_ways_of_writing_meet_in_one_tag(tag):
    for text in WRITTEN[tag]:
        tags = {tag for found in expressions_of(text) for tag in found.tags}
        assert tag in tags, text


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_looks_like_one_is_none(text):
    assert expressions_of(text) == []


def test_what_is_wrong_in_itself_is_left_alone():
    assert expressions_of("Gleason 3+4=8") == []
    assert [e.label for e in expressions_of("Nottingham score 2")] == []


def test_a_question_is_read_more_freely():
    tags = [
        t for e in expressions_of("t2 g3 c50 8140", asked=True) for p in asked_parts(e) for t in p
    ]
    assert tags == ["x0t2", "x0grade3", "x0codec50", "x0code8140"]


def test_who_asks_for_a_part_does_not_mean_the_whole():
    (found,) = expressions_of("pT2a N1 M0", asked=True)
    assert list(asked_parts(found)) == [("x0t2a",), ("x0n1",), ("x0m0",)]
    assert {"x0t2a", "x0t2"} <= set(expressions_of("pT2a N1 M0")[0].tags)
    (high,) = expressions_of("high grade", asked=True)
    assert {"x0gradehigh", "x0grade3"} <= set(next(asked_parts(high)))


@pytest.mark.parametrize(
    ("first", "second", "isup"),
    [(3, 3, 1), (2, 3, 1), (3, 4, 2), (4, 3, 3), (4, 4, 4), (3, 5, 4), (4, 5, 5), (5, 5, 5)],
)
def test_grade_groups_of_gleason_scores(first, second, isup):
    assert isup_of(first, second) == isup
