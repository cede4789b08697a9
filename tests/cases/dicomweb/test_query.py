"""The query of a search: what its keys mean, and what is no query."""

import pytest

from cases.dicomweb.wire.query import QueryError, matches, parse_query

TOLD = {
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
    "00080020": {"vr": "DA", "Value": ["20260102"]},
    "00080030": {"vr": "TM", "Value": ["030405"]},
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "00200011": {"vr": "IS", "Value": [7]},
    "00080008": {"vr": "CS", "Value": ["ORIGINAL", "VOLUME"]},
    "00400560": {
        "vr": "SQ",
        "Value": [{"00400551": {"vr": "LO", "Value": ["A1"]}}, {}],
    },
}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PatientName", "doe^jane", True),
        ("00100010", "DOE*", True),
        ("PatientName", "Doe", False),
        ("PatientName", "D?e^*", True),
        ("PatientName", "*", None),
        ("PatientName", "", None),
        ("StudyDate", "20260102", True),
        ("StudyDate", "20260101-20260103", True),
        ("StudyDate", "20260103-", False),
        ("StudyDate", "-20260102", True),
        ("StudyDate", "2026", True),
        ("StudyDate", "202602", False),
        ("StudyTime", "03", True),
        ("StudyTime", "0305-", False),
        ("StudyInstanceUID", "1.2.3", True),
        ("StudyInstanceUID", "9.9,1.2.3", True),
        ("StudyInstanceUID", "9.9\\1.2.3", True),
        ("StudyInstanceUID", "1.2", False),
        ("SeriesNumber", "7", True),
        ("SeriesNumber", "7.0", True),
        ("SeriesNumber", "8", False),
        ("ImageType", "VOLUME", True),
        ("ImageType", "volume", False),
        ("SpecimenDescriptionSequence.SpecimenIdentifier", "A1", True),
        ("00400560.00400551", "A*", True),
        ("00400560.SpecimenIdentifier", "B", False),
    ],
)
def test_a_key_matches(name, value, expected):
    keys = parse_query([(name, value)]).keys
    assert (matches(keys[0], TOLD) if keys else None) == expected


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("Nonsense", "1", "unknown_attribute"),
        ("PatientName.PatientID", "1", "unknown_attribute"),
        ("00100010.00100020", "1", "unknown_attribute"),
        (".".join(["SpecimenDescriptionSequence"] * 9), "1", "unknown_attribute"),
        ("SpecimenDescriptionSequence", "1", "bad_value"),
        ("StudyDate", "yesterday", "bad_value"),
        ("StudyDate", "20261399", "bad_value"),
        ("StudyDate", "20260230-20260301", "bad_value"),
        ("StudyInstanceUID", "1.2;drop", "bad_value"),
        ("SeriesNumber", "x", "bad_value"),
        ("PatientName", "a\x00b", "bad_value"),
        ("limit", "-1", "bad_value"),
        ("offset", "x", "bad_value"),
        ("includefield", "Nonsense", "unknown_attribute"),
        ("PatientName", "x" * 10_000, "too_many_keys"),
    ],
)
def test_what_is_no_query_is_named(name, value, code):
    with pytest.raises(QueryError) as error:
        parse_query([(name, value)])
    assert error.value.code == code


def test_parameters_that_are_no_keys():
    query = parse_query(
        [
            ("limit", "5"),
            ("offset", "10"),
            ("fuzzymatching", "true"),
            ("includefield", "StudyDescription,00081048"),
            ("includefield", "all"),
        ]
    )
    assert (query.limit, query.offset, query.asks_fuzzy, query.all_fields) == (5, 10, True, True)
    assert query.fields == {"00081030", "00081048"}
    assert query.keys == ()
