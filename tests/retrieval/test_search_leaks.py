"""An answer says nothing about hidden rows: not by order, ranks, scores, votes, facets, counts."""

import re

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from cases.models import AccessEvent, Cohort, CohortEntry, Report
from cases.permissions import Role
from retrieval import selectors
from retrieval.filters import SearchFilters
from retrieval.models import SearchHit, SearchQuery, SlideEmbedding
from retrieval.selectors_facets import search_facets
from retrieval.services.search import search_run
from tests.factories import DepartmentFactory, ReportFactory, make_member, make_slide_image
from tests.retrieval.vectors import axis, between, embed, embed_report, make_model

pytestmark = pytest.mark.django_db

WORDS = "keratin pearls"


@pytest.fixture(autouse=True)
def meaning(monkeypatch):
    monkeypatch.setattr(
        "retrieval.services.text_search.encode_texts", lambda model, texts: np.stack([axis(0)])
    )


@pytest.fixture
def models():
    return make_model("image"), make_model("text")


def add_slide(department, models, vector, line: str, code: str = "", **case_fields):
    """Add an indexed slide with a signed, embedded report."""
    image_model, text_model = models
    slide_image = make_slide_image(department)
    type(slide_image.slide.case).objects.filter(pk=slide_image.slide.case_id).update(**case_fields)
    embed(slide_image, image_model, vector, tokens=[vector, axis(3)], shares=[0.7, 0.3])
    report = ReportFactory(
        case=slide_image.slide.case, diagnosis_line=line, diagnosis_code=code or line
    )
    embed_report(report, text_model, vector)
    return slide_image


@pytest.fixture
def lung(models):
    department = DepartmentFactory(code="lung")
    for share, line in ((1.0, "Squamous, keratin pearls"), (0.8, "Squamous"), (0.5, "Adeno")):
        add_slide(department, models, between(0, 1, share), line)
    return department


@pytest.fixture
def asked(lung, models):
    return add_slide(lung, models, axis(0), "Asked")


@pytest.fixture
def anna(lung):
    return make_member(lung, Role.PATHOLOGIST, username="anna")


def foreign_neighbours(models):
    """Fill another department with nearer neighbours, better reports and values of its own."""
    liver = DepartmentFactory(code="liver")
    images = [
        add_slide(liver, models, between(0, 1, share), f"{WORDS} {i}", f"F{i}")
        for i, share in enumerate((1.0, 0.95, 0.9, 0.85, 0.7, 0.6) * 3)
    ]
    for image in images:
        image.slide.stain = "Trichrome"
        image.slide.save()
        image.slide.specimen.organ = "Liver"
        image.slide.specimen.save()
    return images


QUESTIONS = {
    "slide": {"slide_image": True},
    "words": {"text": WORDS},
    "slide and words": {"slide_image": True, "text": WORDS, "text_weight": 2},
    "understood": {"text": "SqCC G3 without necrosis OR carcinoma"},
    "typing error": {"text": "squamuos keratni -necrosis"},
    "condition": {"slide_image": True, "text": "like this slide, but squamous"},
    "as typed": {"text": WORDS, "is_literal": True},
    "region": {"region": True},
    "region and words": {"region": True, "text": WORDS},
    "few": {"slide_image": True, "text": WORDS, "limit": 2},
    "filtered": {"slide_image": True, "filters": SearchFilters(organ="Lung", stain="H&E")},
}


def region_of(asked) -> SearchQuery:
    """Return a question about a part of the slide, encoded before."""
    embedding = SlideEmbedding.objects.select_related("model").get(slide_image=asked)
    return SearchQuery(
        slide_image=asked,
        region={"x_l0": 0, "y_l0": 0, "width_l0": 448, "height_l0": 448},
        image_model=embedding.model,
        vector=axis(0),
        mosaic=axis(0).astype("<f2").tobytes(),
        places=[{"x_l0": 0, "y_l0": 0, "size_l0": 448, "share": 1.0}],
    )


def page_and_json(user, asked, question) -> bytes:
    """Return everything that the user is told, byte for byte, less its own id and clock."""
    ask = {**question, **({"slide_image": asked} if question.get("slide_image") else {})}
    if ask.pop("region", False):
        ask["repeat"] = region_of(asked)
    query = search_run(user, **ask)
    client = Client()
    client.force_login(user)
    page = client.get(reverse("search_results", args=[query.pk]))
    api = client.get(reverse("searches-detail", args=[query.pk]))
    form = client.get(reverse("search"))
    assert page.status_code == api.status_code == form.status_code == 200
    told = page.content + api.content + form.content
    told = told.replace(str(query.pk).encode(), b"QUERY")
    told = re.sub(rb'(csrfmiddlewaretoken" value=|CSRFToken": )"\w+"', b"", told)
    told = re.sub(rb'"(created_at|seconds)":[^,}]+', b"", told)
    told = re.sub(rb'"stages":{[^}]*}', b"", told)
    told = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d\s+\S+ [\d.]+ s", b"", told)
    return re.sub(rb'name="hit" value="\d+"', b"", told)


@pytest.mark.parametrize("exact_scan_max", [20_000, 0])
@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_are_the_same_bytes_with_hidden_neighbours(
    name, exact_scan_max, anna, asked, models, settings
):
    settings.EXACT_SCAN_MAX = exact_scan_max
    before = page_and_json(anna, asked, QUESTIONS[name])
    assert b"Squamous" in before
    foreign_neighbours(models)
    assert page_and_json(anna, asked, QUESTIONS[name]) == before


def test_the_same_answer_changes_when_the_neighbours_are_ones_own(anna, asked, lung, models):
    """The comparison above can fail: visible neighbours do change the bytes."""
    before = page_and_json(anna, asked, QUESTIONS["slide and words"])
    add_slide(lung, models, axis(0), WORDS)
    assert page_and_json(anna, asked, QUESTIONS["slide and words"]) != before


def test_facets_come_from_visible_rows_only(anna, lung, models):
    foreign_neighbours(models)
    Cohort.objects.create(department=DepartmentFactory(code="liver"), name="Hidden")
    facets = search_facets(anna)
    assert [d.code for d in facets.departments] == ["lung"]
    assert facets.organs == ["Lung"]
    assert facets.stains == ["H&E"]
    assert "F1" not in dict(facets.diagnosis_codes)
    assert not facets.cohorts.exists()
    nobody = search_facets(make_member(None, Role.SYSTEM_ADMINISTRATOR))
    assert (nobody.organs, nobody.stains, nobody.diagnosis_codes) == ([], [], [])
    assert not nobody.departments.exists()


def test_hidden_departments_and_cohorts_are_no_choice(anna, lung, client, models):
    images = foreign_neighbours(models)
    liver = images[0].department
    cohort = Cohort.objects.create(department=liver, name="Hidden")
    CohortEntry.objects.create(cohort=cohort, slide_image=images[0])
    client.force_login(anna)
    for field, value in (("department", liver.pk), ("cohort", cohort.pk), ("organ", "Liver")):
        answer = client.post(reverse("search"), {"text": WORDS, field: value})
        assert answer.status_code == 400, field
    for field, value in (("department", "liver"), ("cohort", str(cohort.pk))):
        real = client.post(reverse("searches-list"), {"text": WORDS, field: value})
        made_up = client.post(
            reverse("searches-list"),
            {"text": WORDS, field: "nowhere" if field == "department" else str(asked_pk())},
        )
        assert real.status_code == made_up.status_code == 400
        if field == "department":
            assert real.content == made_up.content
    assert not SearchQuery.objects.exists()


def asked_pk() -> str:
    return "00000000-0000-4000-8000-000000000000"


def test_hidden_slides_cannot_be_asked_by(anna, client, models, lung):
    (image, *_rest) = foreign_neighbours(models)
    client.force_login(anna)
    assert client.post(reverse("search_slide", args=[image.pk])).status_code == 404
    assert client.post(reverse("search"), {"slide_image": image.pk}).status_code == 404
    assert client.get(reverse("search"), {"slide_image": image.pk}).status_code == 404
    answers = [
        client.post(reverse("searches-list"), {"slide_image": pk})
        for pk in (str(image.pk), asked_pk())
    ]
    assert [a.status_code for a in answers] == [400, 400]
    assert answers[0].content.replace(str(image.pk).encode(), b"") == answers[1].content.replace(
        asked_pk().encode(), b""
    )


def both_departments(lung, models):
    """Return somebody of both departments, with a shared question of hers."""
    images = foreign_neighbours(models)
    vera = make_member(lung, Role.PATHOLOGIST, username="vera")
    vera.memberships.create(department=images[0].department, role=Role.PATHOLOGIST)
    return vera, images


def test_a_shared_answer_shows_each_reader_their_part(anna, asked, lung, models, client):
    vera, images = both_departments(lung, models)
    query = search_run(vera, slide_image=asked)
    assert query.hits.count() == len(images) + 3
    client.force_login(anna)
    answer = client.get(reverse("searches-detail", args=[query.pk])).json()
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert [hit["image_rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert {hit["department"] for hit in answer["hits"]} == {"lung"}
    assert answer["vote"]["patients"] == 3
    own = client.get(
        reverse("searches-detail", args=[search_run(anna, slide_image=asked).pk])
    ).json()
    assert answer["hits"] == own["hits"]
    assert answer["vote"] == own["vote"]
    page = client.get(reverse("search_results", args=[query.pk])).content.decode()
    assert "Trichrome" not in page
    assert "A colleague asked this" in page


def test_words_asked_in_a_wider_scope_are_hidden(anna, asked, lung, models, client):
    vera, images = both_departments(lung, models)
    client.force_login(anna)
    for query in (
        search_run(vera, text=WORDS),
        search_run(vera, slide_image=asked, text=WORDS),
        search_run(vera, slide_image=asked, filters=SearchFilters(stain="Trichrome")),
        search_run(vera, slide_image=images[0]),
    ):
        for route in ("search_results", "search_image", "searches-detail"):
            assert client.get(reverse(route, args=[query.pk])).status_code == 404
        assert client.post(reverse("search_feedback", args=[query.pk])).status_code == 404
        assert client.post(reverse("search"), {"repeat": query.pk}).status_code == 404
    assert client.get(reverse("searches-list")).json()["count"] == 0


def test_rights_that_changed_change_the_answer(asked, lung, models, client):
    vera, images = both_departments(lung, models)
    query = search_run(vera, slide_image=asked)
    client.force_login(vera)
    url = reverse("searches-detail", args=[query.pk])
    assert len(client.get(url).json()["hits"]) == len(images) + 3
    vera.memberships.filter(department=images[0].department).delete()
    assert len(client.get(url).json()["hits"]) == 3
    vera.memberships.all().delete()
    assert client.get(url).status_code == 404


def test_a_shared_cohort_opens_its_slides_and_no_others(anna, asked, lung, models):
    images = foreign_neighbours(models)
    cohort = Cohort.objects.create(department=images[0].department, name="Shared")
    cohort.shared_with.add(lung)
    CohortEntry.objects.create(cohort=cohort, slide_image=images[4])
    found = {hit.slide_image for hit in search_run(anna, slide_image=asked).hits.all()}
    assert found & set(images) == {images[4]}
    only = search_run(anna, slide_image=asked, filters=SearchFilters(cohort=str(cohort.pk)))
    assert [hit.slide_image for hit in only.hits.all()] == [images[4]]
    words = search_run(anna, text=WORDS)
    assert {hit.slide_image for hit in words.hits.all()} & set(images) == {images[4]}
    CohortEntry.objects.update(removed_at="2026-01-01T00:00Z", removed_reason="left")
    results = selectors.search_results(words, anna)
    assert not {hit.slide_image for hit in results.hits} & set(images)


def test_feedback_on_a_hidden_hit_is_not_found(anna, asked, lung, models, client):
    vera, images = both_departments(lung, models)
    query = search_run(vera, slide_image=asked)
    client.force_login(anna)
    url = reverse("search_feedback", args=[query.pk])
    hidden = SearchHit.objects.get(query=query, slide_image=images[0])
    answer = client.post(url, {"hit": hidden.pk, "verdict": "relevant"})
    assert answer.status_code == 404
    seen = SearchHit.objects.visible_to(anna).filter(query=query).first()
    assert client.post(url, {"hit": seen.pk, "verdict": "relevant"}).status_code == 302


def test_every_patient_shown_is_recorded_once_per_look(anna, asked, lung, models, client):
    vera, _images = both_departments(lung, models)
    query = search_run(vera, slide_image=asked)
    client.force_login(anna)
    client.get(reverse("search_results", args=[query.pk]))
    events = AccessEvent.objects.filter(action=AccessEvent.Action.SHOWN, user=anna)
    seen = selectors.search_results(query, anna)
    expected = {hit.patient.pk for hit in seen.hits} | {asked.slide.case.patient_id}
    assert {event.patient_id for event in events} == expected
    assert len(events) == len(expected) == 4
    assert {event.object_id for event in events} == {str(query.pk)}


def test_report_text_and_words_are_escaped(anna, lung, models, client):
    slide_image = add_slide(lung, models, axis(0), "<script>alert(1)</script> granuloma")
    Report.objects.filter(case=slide_image.slide.case).update(
        diagnosis_text="<img src=x onerror=alert(2)> granuloma & co"
    )
    client.force_login(anna)
    query = search_run(anna, text="granuloma <b>")
    page = client.get(reverse("search_results", args=[query.pk])).content.decode()
    assert "<mark>granuloma</mark>" in page
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert "granuloma <b>" not in page
