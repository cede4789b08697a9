"""Answers to questions: order, filters, words, refusals."""

import pytest
from django.core.exceptions import PermissionDenied

from cases.models import AccessEvent, Cohort, CohortEntry, Report
from cases.permissions import Role
from retrieval.filters import SearchFilters
from retrieval.models import SearchQuery, SlideIndex
from retrieval.selectors import search_results
from retrieval.services.query_encoding import EncoderUnavailable
from retrieval.services.query_mosaics import QueryRefused, Region
from retrieval.services.search import search_run
from tests.factories import (
    DepartmentFactory,
    PatientFactory,
    ReportFactory,
    SlideFactory,
    SlideImageFactory,
    make_member,
    make_slide_image,
)
from tests.retrieval.search_cast import answer, slides
from tests.retrieval.vectors import axis, between, embed, embed_report

pytestmark = pytest.mark.django_db


def test_nearest_tissue_comes_first_and_the_query_is_no_answer(anna, lung, image_model):
    asked, far, near, middle = slides(
        lung, image_model, axis(0), axis(1), between(0, 1, 0.9), between(0, 1, 0.6)
    )
    query = search_run(anna, slide_image=asked)
    hits = list(query.hits.all())
    assert [hit.slide_image for hit in hits] == [near, middle, far]
    assert [hit.rank for hit in hits] == [hit.image_rank for hit in hits] == [1, 2, 3]
    assert hits[0].image_similarity > hits[1].image_similarity > hits[2].image_similarity
    assert hits[0].pairs[0]["candidate"]["size_l0"] == 224
    assert query.scope_department_ids == [lung.pk]
    event = AccessEvent.objects.get(action=AccessEvent.Action.SEARCH)
    assert (event.user, event.object_id) == (anna, str(query.pk))
    assert event.patient_id == asked.slide.case.patient_id


def test_mosaics_reorder_what_slide_vectors_tie(anna, lung, image_model):
    asked, one, other = (make_slide_image(lung) for _ in range(3))
    embed(asked, image_model, axis(0), tokens=[axis(1), axis(2)])
    embed(one, image_model, axis(0), tokens=[axis(3), axis(4)])
    embed(other, image_model, axis(0), tokens=[axis(1), axis(2)])
    assert answer(anna, slide_image=asked) == [other, one]


def test_own_patient_is_left_out_in_every_department(anna, lung, image_model):
    """The person is (mrn_issuer, mrn), also where another department has a row of its own."""
    breast = DepartmentFactory(code="breast")
    anna = make_member(lung, Role.PATHOLOGIST)
    anna.memberships.create(department=breast, role=Role.PATHOLOGIST)
    asked, stranger = slides(lung, image_model, axis(0), axis(1))
    patient = asked.slide.case.patient
    second = SlideImageFactory(slide=SlideFactory(case=asked.slide.case))
    embed(second, image_model, axis(0))
    twin = PatientFactory(department=breast, mrn=patient.mrn, mrn_issuer=patient.mrn_issuer)
    elsewhere = make_slide_image(breast)
    elsewhere.slide.case.patient = twin
    elsewhere.slide.case.save()
    embed(elsewhere, image_model, axis(0))

    assert answer(anna, slide_image=asked) == [stranger]
    query = search_run(anna, slide_image=asked, include_same_patient=True)
    results = search_results(query, anna)
    assert {hit.slide_image for hit in results.hits} == {second, elsewhere, stranger}
    assert {h.slide_image for h in results.hits if h.same_patient} == {second, elsewhere}


def test_a_patient_who_asks_about_himself_does_not_vote(anna, lung, image_model):
    asked, stranger = slides(lung, image_model, axis(0), axis(1))
    second = SlideImageFactory(slide=SlideFactory(case=asked.slide.case))
    embed(second, image_model, axis(0))
    ReportFactory(case=asked.slide.case, diagnosis_code="C1")
    ReportFactory(case=stranger.slide.case, diagnosis_code="B1", diagnosis_line="Benign")
    query = search_run(anna, slide_image=asked, include_same_patient=True)
    assert [line.label for line in search_results(query, anna).vote.lines] == ["Benign"]


def test_only_current_signed_reports_give_the_diagnosis(anna, lung, image_model):
    asked, amended, preliminary = slides(lung, image_model, axis(0), axis(0), axis(1))
    ReportFactory(case=amended.slide.case, is_current=False, diagnosis_line="Old")
    ReportFactory(
        case=amended.slide.case,
        version=2,
        status=Report.Status.AMENDED,
        diagnosis_line="New",
        diagnosis_code="",
    )
    ReportFactory(
        case=preliminary.slide.case,
        status=Report.Status.PRELIMINARY,
        diagnosis_line="Suspected",
        diagnosis_code="X1",
    )
    results = search_results(search_run(anna, slide_image=asked), anna)
    shown = {
        h.slide_image: h.diagnosis.diagnosis_line if h.diagnosis else None for h in results.hits
    }
    assert shown == {amended: "New", preliminary: None}
    assert [line.label for line in results.vote.lines] == ["New"]
    assert results.vote.without_diagnosis == 0
    filtered = search_run(anna, slide_image=asked, filters=SearchFilters(diagnosis_code="X1"))
    assert not filtered.hits.exists()


def test_filters_narrow_before_the_limit(anna, lung, image_model):
    """The filtered slide is the farthest of all: a filter after the LIMIT would lose it."""
    asked, wanted = slides(lung, image_model, axis(0), axis(1))
    slides(lung, image_model, *[between(0, 1, 0.8)] * 12)
    case = wanted.slide.case
    case.received_on = "2020-02-03"
    case.save()
    wanted.slide.specimen.organ = "Pleura"
    wanted.slide.specimen.save()
    wanted.slide.stain = "PAS"
    wanted.slide.save()
    ReportFactory(case=case, diagnosis_code="9050/3")
    cohort = Cohort.objects.create(department=lung, name="Mesothelioma")
    CohortEntry.objects.create(cohort=cohort, slide_image=wanted)
    for filters in (
        SearchFilters(organ="Pleura"),
        SearchFilters(stain="PAS"),
        SearchFilters(diagnosis_code="9050/3"),
        SearchFilters(received_from="2020-02-03", received_to="2020-02-03"),
        SearchFilters(cohort=str(cohort.pk)),
        SearchFilters(organ="Pleura", stain="PAS", department=lung.pk),
    ):
        assert answer(anna, slide_image=asked, filters=filters, limit=1) == [wanted]
        assert SearchFilters.from_json(filters.to_json()) == filters
    assert answer(anna, slide_image=asked, filters=SearchFilters(organ="Liver")) == []
    CohortEntry.objects.update(removed_at="2026-01-01T00:00Z", removed_reason="wrong")
    assert answer(anna, slide_image=asked, filters=SearchFilters(cohort=str(cohort.pk))) == []


def reports(department, text_model, *texts):
    found = []
    for text, vector in texts:
        slide_image = make_slide_image(department)
        report = ReportFactory(
            case=slide_image.slide.case, diagnosis_line=text, diagnosis_text="", diagnosis_code=text
        )
        embed_report(report, text_model, vector)
        found.append(slide_image)
    return found


def test_words_and_meaning_together(anna, lung, text_model, meaning):
    meaning["keratin pearls"] = axis(0)
    unrelated, by_words, by_meaning, both = reports(
        lung,
        text_model,
        ("Chronic gastritis", axis(5)),
        ("Keratin pearls seen", axis(4)),
        ("Squamous carcinoma", axis(0)),
        ("Squamous carcinoma with keratin pearls", between(0, 1, 0.9)),
    )
    query = search_run(anna, text="keratin pearls")
    hits = list(query.hits.all())
    assert hits[0].slide_image == both
    assert {hit.slide_image for hit in hits[1:3]} == {by_words, by_meaning}
    assert hits[3].slide_image == unrelated
    found = {hit.slide_image: hit.full_text_match for hit in hits}
    assert found == {both: True, by_words: True, by_meaning: False, unrelated: False}


def test_quotes_and_excluded_words_are_obeyed_by_meaning_too(anna, lung, text_model, meaning):
    meaning["carcinoma"] = axis(0)
    squamous, adeno, small = reports(
        lung,
        text_model,
        ("Squamous carcinoma", axis(0)),
        ("Adenocarcinoma, a carcinoma of glands", axis(0)),
        ("Small cell carcinoma", axis(0)),
    )
    assert set(answer(anna, text="carcinoma -squamous")) == {adeno, small}
    assert answer(anna, text='"small cell"') == [small]
    assert set(answer(anna, text="squamous OR small")) >= {squamous, small}
    assert search_run(anna, text='"small cell"').notices
    assert not search_run(anna, text="small cell").notices


def test_old_versions_do_not_answer(anna, lung, text_model, meaning):
    (slide_image,) = reports(lung, text_model, ("Granuloma", axis(0)))
    Report.objects.update(is_current=False)
    ReportFactory(
        case=slide_image.slide.case, version=2, diagnosis_line="Scar", diagnosis_text="", comment=""
    )
    assert answer(anna, text="granuloma") == []
    assert answer(anna, text="scar") == [slide_image]


def test_without_the_encoder_full_text_answers_and_says_so(anna, lung, text_model, monkeypatch):
    def down(model, texts):
        raise EncoderUnavailable

    monkeypatch.setattr("retrieval.services.text_search.encode_texts", down)
    match, _other = reports(lung, text_model, ("Granuloma", axis(0)), ("Scar", axis(1)))
    query = search_run(anna, text="granuloma")
    assert [hit.slide_image for hit in query.hits.all()] == [match]
    assert any("words alone" in notice for notice in query.notices)
    assert query.text_model is None


def test_weights_decide_between_tissue_and_words(anna, lung, image_model, text_model, meaning):
    meaning["granuloma"] = axis(0)
    like, said = reports(lung, text_model, ("Scar", axis(5)), ("Granuloma", axis(0)))
    (asked,) = slides(lung, image_model, axis(0))
    embed(like, image_model, axis(0))
    embed(said, image_model, axis(3))
    ask = {"slide_image": asked, "text": "granuloma"}
    assert answer(anna, **ask, image_weight=3)[0] == like
    assert answer(anna, **ask, text_weight=3)[0] == said
    hit = search_run(anna, **ask, text_weight=3).hits.get(rank=1)
    assert (hit.image_rank, hit.text_rank, hit.full_text_match) == (2, 1, True)


def test_a_slide_without_embedding_answers_words(anna, lung, image_model, text_model, meaning):
    (unindexed,) = reports(lung, text_model, ("Granuloma", axis(0)))
    (asked,) = slides(lung, image_model, axis(0))
    hit = search_run(anna, slide_image=asked, text="granuloma").hits.get()
    assert (hit.slide_image, hit.image_similarity, hit.text_rank) == (unindexed, None, 1)


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [
        (None, "", "waits"),
        ("queued", "", "waits"),
        ("running", "", "being indexed"),
        ("skipped", "No tissue was found.", "No tissue was found."),
        ("failed", "The file is gone.", "indexing page"),
    ],
)
def test_a_slide_that_is_not_indexed_is_a_named_refusal(
    anna, lung, image_model, state, reason, told
):
    slide_image = make_slide_image(lung)
    if state:
        SlideIndex.objects.create(
            slide_image=slide_image,
            department=lung,
            model=image_model,
            state=state,
            reason=reason,
            reason_code="x" if reason else "",
        )
    with pytest.raises(QueryRefused, match=told) as error:
        search_run(anna, slide_image=slide_image)
    assert error.value.code == "slide_not_indexed"
    assert not SearchQuery.objects.exists()


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({}, "nothing_asked"),
        ({"text": "  \n "}, "nothing_asked"),
        ({"text": "x" * 1001}, "text_too_long"),
        ({"text": "x", "text_weight": -1}, "weight_out_of_range"),
        ({"text": "x", "text_weight": float("nan")}, "weight_out_of_range"),
        ({"text": "x", "text_weight": 0}, "weight_out_of_range"),
        ({"text": "x", "region": Region(0, 0, 99, 99)}, "region_without_slide"),
    ],
)
def test_questions_that_ask_nothing_are_named(anna, question, code):
    with pytest.raises(QueryRefused) as error:
        search_run(anna, **question)
    assert error.value.code == code


def test_who_runs_the_site_may_not_search(lung):
    with pytest.raises(PermissionDenied):
        search_run(make_member(None, Role.SYSTEM_ADMINISTRATOR), text="x")


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((-50, 10, 150, 100), (0, 10, 100, 100)),
        ((2000, 2000, 500, 500), (2000, 2000, 48, 48)),
        ((0, 0, 10**9, 10**9), (0, 0, 2048, 2048)),
    ],
)
def test_regions_are_clipped_to_the_slide(lung, box, clipped):
    found = Region(*box).clipped(make_slide_image(lung))
    assert (found.x_l0, found.y_l0, found.width_l0, found.height_l0) == clipped


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((3000, 0, 100, 100), "region_outside"),
        ((0, 0, 0, 100), "region_outside"),
        ((0, 0, 100, -5), "region_outside"),
        ((0, 0, 5, 5), "region_too_small"),
    ],
)
def test_regions_beside_the_slide_are_named(lung, box, code):
    with pytest.raises(QueryRefused) as error:
        Region(*box).clipped(make_slide_image(lung))
    assert error.value.code == code
