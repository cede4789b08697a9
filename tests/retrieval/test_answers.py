"""The page of an answer: by patient, in the order of one's marks, as a table, as CSV."""

import csv

import numpy as np
import pytest
from django.urls import reverse

from cases.models import AccessEvent
from cases.permissions import Role
from retrieval.models import SlideIndex
from retrieval.selectors import search_results
from retrieval.services.feedback import feedback_give
from retrieval.services.reranking import reranked
from retrieval.services.search import search_run
from tests.factories import (
    ReportFactory,
    SlideFactory,
    SlideImageFactory,
    make_member,
    make_slide_image,
)
from tests.retrieval.vectors import axis, between, embed, embed_report, make_model, unit

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signed_in")]


def leaning(side: int, cosine: float) -> np.ndarray:
    """Return the unit vector of this cosine to the question that otherwise lies to one side."""
    return unit(cosine * axis(0) + np.sqrt(1 - cosine**2) * axis(side))


@pytest.fixture
def asked(lung, image_model, anna):
    """Return a question whose answers come by falling nearness: 0.9, 0.8, 0.7, 0.6.

    The second and the fourth lean to the same side, the others to another.
    """
    for share, side in ((0.9, 1), (0.8, 2), (0.7, 1), (0.6, 2)):
        image = make_slide_image(lung)
        embed(image, image_model, leaning(side, share))
        ReportFactory(case=image.slide.case, diagnosis_line=f"={share}")
    slide = make_slide_image(lung)
    embed(slide, image_model, axis(0))
    return search_run(anna, slide_image=slide)


def ranks(user, query) -> list[int]:
    moved = reranked(user=user, results=search_results(query, user))
    return [hit.rank for hit in moved.hits]


def test_a_mark_orders_the_answer_at_once(anna, asked):
    assert reranked(user=anna, results=search_results(asked, anna)) is None
    hits = list(asked.hits.order_by("rank"))
    feedback_give(user=anna, hit=hits[1], verdict="relevant")
    # The marked one first; then the fourth, which is like it, has passed the third.
    order = ranks(anna, asked)
    assert order[0] == 2
    assert order.index(4) < order.index(3)
    feedback_give(user=anna, hit=hits[0], verdict="not_relevant")
    assert ranks(anna, asked)[-1] == 1
    # The stored answer is as it was.
    assert [hit.rank for hit in search_results(asked, anna).hits] == [1, 2, 3, 4]


def test_words_are_ordered_by_the_marked_reports(lung, anna, monkeypatch):
    monkeypatch.setattr(
        "retrieval.services.text_search.encode_texts", lambda model, texts: np.stack([axis(0)])
    )
    text_model = make_model("text")
    for share, side in ((0.9, 1), (0.8, 2), (0.7, 1), (0.6, 2)):
        report = ReportFactory(case=make_slide_image(lung).slide.case)
        embed_report(report, text_model, leaning(side, share))
    query = search_run(anna, text="carcinoma")
    hits = list(query.hits.order_by("rank"))
    feedback_give(user=anna, hit=hits[1], verdict="relevant")
    assert ranks(anna, query)[0] == 2
    assert sorted(ranks(anna, query)) == [1, 2, 3, 4]


def test_a_verdict_brings_the_list_in_the_new_order(client, anna, asked):
    url = reverse("search_feedback", args=[asked.pk])
    last = asked.hits.order_by("rank").last()
    sent = {"hit": last.pk, "verdict": "relevant"}
    page = client.post(url, sent, headers={"HX-Request": "true"}).content.decode()
    assert page.count('class="card hit"') == 4
    assert page.index(f'id="slide-{last.slide_image_id}"') < page.index(">1</span>")
    assert "Ordered by your marks: 1 relevant, 0 not relevant" in page
    assert "<html" not in page
    # The next look has it too; a colleague's has not.
    address = reverse("search_results", args=[asked.pk])
    assert b"Ordered by your marks" in client.get(address).content
    client.force_login(make_member(last.department, Role.PATHOLOGIST))
    assert b"Ordered by your marks" not in client.get(address).content


def test_slides_of_one_patient_are_one_answer(client, anna, lung, image_model, asked):
    case = asked.hits.order_by("rank").first().slide_image.slide.case
    more = SlideImageFactory(slide=SlideFactory(case=case))
    embed(more, image_model, between(0, 1, 0.5))
    query = search_run(anna, slide_image=asked.slide_image)
    page = client.get(reverse("search_results", args=[query.pk])).content.decode()
    assert "5 slides found" in page
    assert page.count('class="card hit"') == 4
    assert "1 more slide of this patient" in page
    assert f'class="more-slide" id="slide-{more.pk}"' in page


def test_the_matched_places_are_boxed_on_the_whole_slide(client, anna, asked):
    hit = asked.hits.order_by("rank").first()
    place = hit.pairs[0]["candidate"]
    page = client.get(reverse("search_results", args=[asked.pk])).content.decode()
    image = hit.slide_image
    assert f'viewBox="0 0 {image.width_l0} {image.height_l0}"' in page
    assert f'<rect x="{int(place["x_l0"])}" y="{int(place["y_l0"])}"' in page


def test_little_tissue_is_said(client, anna, image_model, asked):
    hit = asked.hits.order_by("rank").first()
    index = SlideIndex.objects.create(
        department=hit.department, slide_image=hit.slide_image, model=image_model, state="indexed"
    )
    model_area = (image_model.patch_px * image_model.mpp / 1000) ** 2
    address = reverse("search_results", args=[asked.pk])
    for mm2, said in ((0.5, True), (2.0, False)):
        index.patch_count = round(mm2 / model_area)
        index.save()
        assert (b"Little tissue" in client.get(address).content) is said


def test_the_choice_of_cards_or_table_holds(client, anna, asked):
    address = reverse("search_results", args=[asked.pk])
    table = client.get(address, {"view": "table"}).content.decode()
    assert 'class="table answers"' in table
    assert 'class="card hit"' not in table
    assert 'class="table answers"' in client.get(address).content.decode()
    assert 'class="card hit"' in client.get(address, {"view": "cards"}).content.decode()


def test_an_answer_leaves_as_csv_with_its_models_and_a_record(client, anna, asked):
    answer = client.get(reverse("search_export", args=[asked.pk]))
    rows = list(csv.reader(answer.content.decode("utf-8-sig").splitlines()))
    head = {row[0]: row for row in rows[:4]}
    assert head["# model"][1:] == ["test-image-8", asked.image_model.version]
    assert head["#"] == ["#", "An aid and no diagnosis."]
    names, *lines = rows[3:]
    table = [dict(zip(names, line, strict=True)) for line in lines]
    assert [row["rank"] for row in table] == ["1", "2", "3", "4"]
    assert table[0]["diagnosis_line"] == "'=0.9"  # no formula
    patients = {hit.slide_image.slide.case.patient_id for hit in asked.hits.all()}
    exported = AccessEvent.objects.filter(action="export")
    assert {event.patient_id for event in exported} == patients


def test_technicians_export_no_answer(client, lung, asked):
    client.force_login(make_member(lung, Role.TECHNICIAN))
    address = reverse("search_export", args=[asked.pk])
    assert client.get(address).status_code == 403
    page = client.get(reverse("search_results", args=[asked.pk])).content.decode()
    assert address not in page
