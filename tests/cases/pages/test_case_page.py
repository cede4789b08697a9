"""The case page: what changed between versions of the report, and who has seen the patient."""

import pytest
from django.urls import reverse

from cases.models import AccessEvent, Report
from cases.permissions import Role
from cases.report_diff import WORDS_MOST, compare
from tests.factories import CaseFactory, ReportFactory


def marked(pieces) -> str:
    return "".join(f"[{p.text}]" if p.is_changed else p.text for p in pieces)


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        ("pT2 N0", "pT2 N1", "pT2 [N0]", "pT2 [N1]"),
        ("Margins free.", "Margins not free.", "Margins free.", "Margins[ not] free."),
        ("", "New.", "", "[New.]"),
        ("Old.", "", "[Old.]", ""),
        ("5 mm", "5mm", "[5 mm]", "[5mm]"),
    ],
)
def test_words_that_changed_are_marked_on_their_side(before, after, left, right):
    old, new = compare(before, after)
    assert (marked(old), marked(new)) == (left, right)
    assert "".join(piece.text for piece in old) == before
    assert "".join(piece.text for piece in new) == after


def test_a_long_text_is_compared_by_line():
    lines = [f"line {n} " + "word " * 50 + "\n" for n in range(WORDS_MOST // 25)]
    old, new = compare("".join(lines), "".join([*lines[:3], "other words\n", *lines[4:]]))
    assert [p.text for p in new if p.is_changed] == ["other words\n"]
    assert [p.text for p in old if p.is_changed] == [lines[3]]


@pytest.fixture
def case(cast):
    case = CaseFactory(department=cast.north)
    for version, status, line in (
        (1, Report.Status.PRELIMINARY, "Suspicious for carcinoma"),
        (2, Report.Status.FINAL, "Carcinoma <b>G2</b>"),
        (3, Report.Status.AMENDED, "Carcinoma <b>G3</b>"),
    ):
        case.reports.update(is_current=False)
        ReportFactory(case=case, version=version, status=status, diagnosis_line=line)
    return case


def test_the_page_shows_what_each_version_changed(cast, case):
    response = cast.client(cast.north, Role.TECHNICIAN).get(reverse("case", args=[case.pk]))
    changes = response.context["changes"]
    assert [(c.older.version, c.newer.version) for c in changes] == [(2, 3), (1, 2)]
    assert [section.label for section in changes[0].sections] == ["Diagnosis in one line"]
    page = response.content.decode()
    assert "<del>G2</del>" in page
    assert "<ins>G3</ins>" in page
    assert "<b>G" not in page  # what a report says cannot become markup
    assert "Final → <strong>Amended</strong>" in page


def test_who_has_seen_it_is_told_to_who_may_read_the_log(cast, case):
    reader = cast.client(cast.north, Role.PATHOLOGIST)
    reader.get(reverse("case", args=[case.pk]))
    reader.get(reverse("case", args=[case.pk]))
    name = reader.get("/").wsgi_request.user.username
    address = reverse("case_seen", args=[case.pk])
    assert address.encode() not in reader.get(reverse("case", args=[case.pk])).content
    assert reader.get(address).status_code == 403
    chief = cast.client(cast.north, Role.DEPARTMENT_ADMINISTRATOR)
    assert address.encode() in chief.get(reverse("case", args=[case.pk])).content
    response = chief.get(address)
    counts = {row["user__username"]: row["count"] for row in response.context["people"]}
    seen = AccessEvent.objects.filter(user__username=name, patient_id=case.patient_id).count()
    assert counts[name] == seen >= 3
    look = AccessEvent.objects.filter(detail__page="access log").get()
    assert look.patient_id == case.patient_id
    stranger = cast.client(cast.south, Role.DEPARTMENT_ADMINISTRATOR)
    assert stranger.get(address).status_code == 404
