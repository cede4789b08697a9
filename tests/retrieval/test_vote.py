"""The vote: what its similarity is worth, base rates, and when it abstains."""

import numpy as np
import pytest
from django.core.management import call_command
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from cases.models import Report
from cases.permissions import Role
from cases.services.patient_merges import patients_merge, patients_unmerge
from retrieval.engine.calibration import (
    Calibration,
    calibrate,
    expected_agreement,
    pool_adjacent_violators,
)
from retrieval.engine.ranking import Ballot, vote
from retrieval.engine.verdict import weigh
from retrieval.models import VoteCalibration
from retrieval.selectors import search_results
from retrieval.selectors_vote import base_rates
from retrieval.services.search import search_run
from retrieval.services.vote_calibration import vote_calibrate
from tests.factories import (
    DepartmentFactory,
    PatientFactory,
    ReportFactory,
    SlideFactory,
    SlideImageFactory,
    make_member,
    make_slide_image,
)
from tests.retrieval.vectors import axis, between, embed, unit

PAIRS = st.lists(st.tuples(st.floats(-1, 1), st.booleans()), min_size=20, max_size=120)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_pooling_is_isotonic_regression(values):
    values = np.array(values)
    weights = np.linspace(1, 2, len(values))
    expected = IsotonicRegression().fit(np.arange(len(values)), values, weights)
    found = pool_adjacent_violators(values, weights)
    assert found == pytest.approx(expected.predict(np.arange(len(values))), abs=1e-6)


@given(PAIRS)
def test_nearer_never_promises_less(pairs):
    fitted = calibrate(*zip(*pairs, strict=True))
    assert list(fitted.agreements) == sorted(fitted.agreements)
    assert list(fitted.similarities) == sorted(fitted.similarities)
    assert 0 < fitted.agreements[0] <= fitted.agreements[-1] < 1
    asked = [fitted.agreement(s) for s in np.linspace(-1.5, 1.5, 20)]
    assert asked == sorted(asked)


def test_a_calibration_finds_the_agreement_that_was_put_in():
    rng = np.random.default_rng(3)
    near = rng.uniform(0, 1, 20_000)
    fitted = calibrate(near.tolist(), (rng.uniform(0, 1, 20_000) < near**2).tolist())
    for similarity in (0.2, 0.5, 0.8):
        assert fitted.agreement(similarity) == pytest.approx(similarity**2, abs=0.06)
    with pytest.raises(ValueError, match="needs"):
        calibrate([0.5], [True])


def test_departments_count_by_their_pairs():
    few, many = Calibration((0.0,), (0.9,), 10), Calibration((0.0,), (0.1,), 30)
    assert expected_agreement([few, many], 0.5) == pytest.approx(0.3)
    assert expected_agreement([], 0.5) is None


def ballots(*diagnoses):
    return [Ballot(rank, rank, diagnosis) for rank, diagnosis in enumerate(diagnoses, start=1)]


@pytest.mark.parametrize(
    ("diagnoses", "expected", "reason"),
    [
        ("AAAAA", [0.9] * 5, ""),
        ("AAB", [], ""),
        ("AA", [0.9, 0.9], "thin"),
        ("", [], "thin"),
        ("AAAAA", [0.4] * 5, "far"),
        ("AABBC", [0.9] * 5, "divided"),
        ("AAB", [0.49, 0.5, 0.52], ""),
    ],
)
def test_a_vote_abstains_when_evidence_is_thin_far_or_divided(diagnoses, expected, reason):
    weight = weigh(vote(ballots(*diagnoses), patients=5), expected)
    assert weight.reason == reason
    assert weight.abstains is bool(reason)
    assert (weight.expected is None) is (not expected)


# --- through the search ------------------------------------------------------------------------

DB = pytest.mark.django_db


def labelled(department, model, vector, line: str, **fields):
    """Return a slide image with an embedding and a signed report."""
    slide_image = make_slide_image(department)
    if model:
        embed(slide_image, model, vector)
    ReportFactory(
        case=slide_image.slide.case, diagnosis_line=line, diagnosis_code=line[:9], **fields
    )
    return slide_image


def clusters(department, model, *, patients: int = 12):
    """Two diagnoses apart from each other; within one, patients are alike."""
    rng = np.random.default_rng(5)
    for where, line in ((0, "Squamous"), (1, "Adeno")) * patients:
        labelled(department, model, unit(axis(where) + 0.1 * rng.normal(size=8)), line)


@DB
def test_base_rates_count_visible_patients_once_and_not_the_asking_one(anna, lung):
    liver = DepartmentFactory(code="liver")
    images = [labelled(lung, None, None, line) for line in ("A", "A", "B")]
    second = SlideFactory(case=images[0].slide.case)
    assert second
    twice = ReportFactory(
        case__department=lung,
        case__patient=images[0].slide.case.patient,
        diagnosis_line="A",
        diagnosis_code="A",
    )
    assert twice
    before = base_rates(anna)
    assert before.shares == {"ICD-O-3|A": pytest.approx(2 / 3), "ICD-O-3|B": pytest.approx(1 / 3)}
    assert (before.patients, before.is_sample) == (3, False)
    for _ in range(5):
        labelled(liver, None, None, "B")
    Report.objects.filter(case=images[2].slide.case).update(status="preliminary")
    labelled(lung, None, None, "B")
    assert base_rates(anna) == before
    without = base_rates(anna, without=images[0].slide.case.patient)
    assert without.shares == {"ICD-O-3|A": 0.5, "ICD-O-3|B": 0.5}


@DB
def test_large_archives_are_sampled(anna, lung, monkeypatch):
    monkeypatch.setattr("retrieval.selectors_vote.BASE_RATE_REPORTS", 4)
    for _ in range(6):
        labelled(lung, None, None, "A")
    rates = base_rates(anna)
    assert (rates.patients, rates.is_sample, rates.shares) == (4, True, {"ICD-O-3|A": 1.0})


@DB
def test_the_calibration_is_the_departments_own(anna, lung, image_model):
    clusters(lung, image_model)
    first = vote_calibrate(department=lung, model=image_model)
    assert first.patients == 24
    assert first.agreements[-1] > 0.8
    known = (first.similarities, first.agreements, first.pairs)
    # A hidden department full of lookalikes with other diagnoses changes nothing.
    liver = DepartmentFactory(code="liver")
    for number in range(30):
        labelled(liver, image_model, axis(number % 2), f"Other {number}")
    again = vote_calibrate(department=lung, model=image_model)
    assert (again.similarities, again.agreements, again.pairs) == known
    assert not VoteCalibration.objects.visible_to(anna).exclude(department=lung).exists()


@DB
def test_a_patients_own_slides_are_no_witness_of_agreement(lung, image_model):
    """Every patient has twin slides of one diagnosis that no other patient has."""
    for number in range(12):
        first = labelled(lung, image_model, unit(axis(0) + 0.01 * axis(number % 8)), f"D{number}")
        twin = SlideImageFactory(slide=SlideFactory(case=first.slide.case))
        embed(twin, image_model, unit(axis(0) + 0.01 * axis(number % 8)))
    fitted = vote_calibrate(department=lung, model=image_model)
    assert fitted.patients == 12
    assert max(fitted.agreements) < 0.1


@DB
def test_too_few_labelled_cases_are_not_calibrated(lung, image_model, capsys):
    labelled(lung, image_model, axis(0), "A")
    VoteCalibration.objects.create(
        department=lung, model=image_model, similarities=[0], agreements=[1], pairs=9, patients=9
    )
    call_command("calibrate_vote", department="lung")
    assert "0 departments calibrated" in capsys.readouterr().out
    assert not VoteCalibration.objects.exists()


@DB
def test_a_far_answer_abstains_and_a_near_one_votes(anna, lung, image_model, client):
    clusters(lung, image_model)
    VoteCalibration.objects.create(
        department=lung,
        model=image_model,
        similarities=[0.5, 0.9],
        agreements=[0.2, 0.95],
        pairs=500,
        patients=100,
    )
    # Of a department that Anna is not in: it would make everything look near.
    VoteCalibration.objects.create(
        department=DepartmentFactory(code="liver"),
        model=image_model,
        similarities=[0.0],
        agreements=[1.0],
        pairs=10**6,
        patients=100,
    )
    near, far = make_slide_image(lung), make_slide_image(lung)
    embed(near, image_model, axis(0))
    embed(far, image_model, axis(5))
    said = search_results(search_run(anna, slide_image=near), anna).vote
    assert (said.weight.reason, said.lines[0].label, said.weight.agreement) == ("", "Squamous", 1.0)
    assert said.weight.expected > 0.9
    assert said.base_rate(said.lines[0]) == pytest.approx(0.5)
    silent = search_results(search_run(anna, slide_image=far), anna).vote
    assert silent.weight.reason == "far"

    client.force_login(anna)
    page = client.post(reverse("search_slide", args=[near.pk]), follow=True).content.decode()
    assert "vote-abstains" not in page
    assert "50 % of all patients that you may see" in page
    voters = search_results(search_run(anna, slide_image=near), anna).hits[:5]
    bars = page[page.index('id="vote"') : page.index("Ask again")]
    for hit in voters:
        assert f'href="{reverse("slide", args=[hit.slide_image.pk])}"' in bars
    page = client.post(reverse("search_slide", args=[far.pk]), follow=True).content.decode()
    assert "No vote." in page
    assert "The nearest are far" in page
    answer = client.post(reverse("searches-list"), {"slide_image": str(far.pk)}).json()["vote"]
    assert (answer["abstains"], answer["reason"], answer["patients"]) == (True, "far", 5)
    assert answer["lines"][0]["base_rate"] == pytest.approx(0.5)
    assert answer["base_rate_patients"] == 24


@DB
def test_regions_and_words_are_not_weighed_by_the_calibration_of_slides(anna, lung, image_model):
    clusters(lung, image_model, patients=3)
    VoteCalibration.objects.create(
        department=lung, model=image_model, similarities=[0], agreements=[0], pairs=9, patients=9
    )
    vote_said = search_results(search_run(anna, text="squamous"), anna).vote
    assert (vote_said.is_calibrated, vote_said.weight.expected) == (False, None)


@DB
def test_one_person_in_two_departments_votes_once(anna, lung, image_model):
    liver = DepartmentFactory(code="liver")
    anna.memberships.create(department=liver, role="pathologist")
    anna = type(anna).objects.get(pk=anna.pk)
    asked = make_slide_image(lung)
    embed(asked, image_model, axis(0))
    first = labelled(lung, image_model, between(0, 1, 0.9), "A")
    patient = first.slide.case.patient
    twin = labelled(liver, image_model, between(0, 1, 0.8), "A")
    twin.slide.case.patient = PatientFactory(
        department=liver, mrn=patient.mrn, mrn_issuer=patient.mrn_issuer
    )
    twin.slide.case.save()
    said = search_results(search_run(anna, slide_image=asked), anna).vote
    assert (said.patients, said.base_rates.patients, said.weight.reason) == (1, 1, "thin")


@DB
def test_two_numbers_that_are_merged_vote_once_at_once_and_twice_when_it_is_undone(
    anna, lung, image_model
):
    asked = make_slide_image(lung)
    embed(asked, image_model, axis(0))
    people = [
        labelled(lung, image_model, between(0, 1, nearness), "A").slide.case.patient
        for nearness in (0.9, 0.8)
    ]
    query = search_run(anna, slide_image=asked)  # its answer is kept, and read again
    assert search_results(query, anna).vote.patients == 2
    admin = make_member(lung, Role.DEPARTMENT_ADMINISTRATOR)
    patients_merge(user=admin, survivor=people[0], merged=people[1])
    said = search_results(query, anna).vote
    assert (said.patients, said.base_rates.patients) == (1, 1)
    patients_unmerge(user=admin, merged=people[1])
    assert search_results(query, anna).vote.patients == 2
