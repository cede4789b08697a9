"""The plan: enough of everything, the same each time, and a longer one begins like a shorter."""

from collections import Counter

from cases.demo.plan import DEPARTMENTS, SYNTHETIC_NOTE, case_data, planned_slides, report_versions
from cases.demo.tissue import DIAGNOSES
from cases.demo.wording import BY_KEY
from cases.management.commands.load_demo import DEFAULT_SLIDES

PLAN = planned_slides(DEFAULT_SLIDES)


def test_it_is_large_and_even_enough():
    assert len(PLAN) >= 60
    of_each = Counter((slide.department.code, slide.diagnosis.key) for slide in PLAN)
    assert len(of_each) == len(DEPARTMENTS) * len(DIAGNOSES)
    assert min(of_each.values()) >= 3
    formats = Counter((slide.diagnosis.key, slide.is_dicom) for slide in PLAN)
    assert len(formats) == 2 * len(DIAGNOSES)


def test_what_must_be_unique_is():
    for name in ("key", "seed", "barcode"):
        values = [getattr(slide, name) for slide in PLAN]
        assert len(set(values)) == len(values)


def test_a_person_is_one_person_and_a_case_has_one_patient():
    people = {}
    cases = {}
    for slide in PLAN:
        assert people.setdefault(slide.patient.mrn, slide.patient) == slide.patient
        case = (slide.department.code, slide.accession_number)
        assert cases.setdefault(case, slide.patient.mrn) == slide.patient.mrn


def test_there_are_the_patients_that_a_search_must_handle():
    slides_of_case = Counter(slide.accession_number for slide in PLAN)
    assert max(slides_of_case.values()) == 2
    cases_of, departments_of = {}, {}
    for slide in PLAN:
        cases_of.setdefault(slide.patient.mrn, set()).add(slide.accession_number)
        departments_of.setdefault(slide.patient.mrn, set()).add(slide.department.code)
    assert any(len(cases) > 1 for cases in cases_of.values())
    assert any(len(departments) > 1 for departments in departments_of.values())


def test_a_longer_archive_begins_with_the_shorter_one():
    assert planned_slides(20) == PLAN[:20]
    assert [report_versions(slide) for slide in planned_slides(20)] == [
        report_versions(slide) for slide in PLAN[:20]
    ]


def test_every_painted_diagnosis_has_its_wording():
    assert set(BY_KEY) == set(DIAGNOSES)


def test_reports_are_varied_complete_and_say_that_they_are_synthetic():
    statuses = Counter()
    texts = set()
    for slide in PLAN:
        versions = report_versions(slide)
        statuses[versions[-1]["status"]] += 1
        for version in versions:
            assert version["comment"].endswith(SYNTHETIC_NOTE)
            assert version["diagnosis_line"] == slide.diagnosis.line
            for name in ("gross_description", "microscopic_description", "diagnosis_text"):
                assert version[name]
                assert "{" not in version[name]
        texts.add(versions[-1]["microscopic_description"])
    assert set(statuses) == {"preliminary", "final", "amended"}
    assert statuses["final"] > 0.7 * len(PLAN)
    assert len(texts) > len(PLAN) / 2


def test_case_data_names_every_glass():
    pair = [slide for slide in PLAN if slide.accession_number == PLAN[0].accession_number]
    data = case_data(pair)
    assert [glass["label"] for glass in data["slides"]] == ["A1-1", "A1-2"]
    assert "{" not in data["clinical_history"]
