"""The conformance statement says what the rules do."""

from pathlib import Path

from cases.wsi.deidentify.rules import OPTIONS, listed
from cases.wsi.deidentify.statement import deidentification_table
from tests.dciodvfy import TOLERATED

PAGE = Path(__file__).resolve().parents[3] / "docs" / "dicom-conformance.md"


def test_the_table_is_the_rules():
    text = PAGE.read_text(encoding="utf-8")
    assert deidentification_table() in text
    for code, _meaning in OPTIONS:
        assert f"| {code} |" in text


def test_every_rule_has_an_action_of_the_standard_and_says_what_it_does():
    for path, rule in listed():
        assert rule.action in {"K", "C", "D", "Z", "U"}, path
    rows = deidentification_table().splitlines()[2:]
    assert all(row.rsplit("|", 2)[1].strip() for row in rows)


def test_every_tolerated_message_is_explained():
    text = PAGE.read_text(encoding="utf-8")
    for word in ("CommonZCoordinateValue", "DICOMDIR", "Retired Person Name", "QUANTITY",
                 "99PATHSEARCH", "not present in standard DICOM IOD"):  # fmt: skip
        assert word in text
        assert any(word in pattern for pattern in TOLERATED)
