"""Tumour boards: filling, ordering and walking through a list; what may not be seen is a gap."""

from datetime import date

import pytest
from django.urls import reverse

from cases.models import AccessEvent, BoardItem, BoardMeeting, Cohort, CohortEntry
from cases.permissions import Role
from tests.factories import ReportFactory, SlideImageFactory, make_slide_image


@pytest.fixture
def meeting(cast) -> BoardMeeting:
    return BoardMeeting.objects.create(
        department=cast.north, title="Lung board", held_on=date(2026, 12, 1)
    )


@pytest.fixture
def client(cast):
    return cast.client(cast.north, Role.PATHOLOGIST)


def add(client, meeting, **data):
    return client.post(reverse("board_add", args=[meeting.pk]), data, follow=True)


def order(meeting) -> list:
    return list(meeting.items.order_by("position").values_list("case_id", "position"))


def walk(client, meeting, at, **more):
    return client.get(reverse("board_walk", args=[meeting.pk]), {"at": at, **more})


@pytest.fixture
def three(cast, client, meeting):
    images = [make_slide_image(cast.north) for _ in range(3)]
    add(client, meeting, case=[image.slide.case_id for image in images[:2]])
    add(client, meeting, case=[images[2].slide.case_id])
    first = [pk for pk, _ in order(meeting)]
    return [next(image for image in images if image.slide.case_id == pk) for pk in first]


def test_a_list_is_made_filled_and_changed(cast, client):
    made = client.post(
        reverse("board_new"),
        {"department": cast.north.pk, "title": "Breast", "held_on": "2026-12-03"},
    )
    meeting = BoardMeeting.objects.get()
    assert made["Location"] == reverse("board", args=[meeting.pk])
    image = make_slide_image(cast.north)
    add(client, meeting, slide_image=[image.pk], question=" Margin free? ", place="l0=1,2,30,40")
    item = meeting.items.get()
    assert (item.case, item.slide_image) == (image.slide.case, image)
    assert (item.question, item.place) == ("Margin free?", "l0=1,2,30,40")
    # Once more is once.
    add(client, meeting, case=[image.slide.case_id])
    assert meeting.items.count() == 1
    change = reverse("board_item_change", args=[meeting.pk, item.pk])
    client.post(change, {"question": "And the nodes?"})
    client.post(
        reverse("board_change", args=[meeting.pk]), {"title": "Later", "held_on": "2026-12-10"}
    )
    meeting.refresh_from_db()
    item.refresh_from_db()
    assert (meeting.title, meeting.held_on, item.question) == (
        "Later",
        date(2026, 12, 10),
        "And the nodes?",
    )
    assert item.place == "l0=1,2,30,40"
    client.post(reverse("board_remove", args=[meeting.pk]))
    assert not BoardMeeting.objects.exists()
    acts = AccessEvent.objects.filter(object_type="boardmeeting").values_list("action", flat=True)
    assert sorted(acts) == ["change"] * 3 + ["create", "delete"]


@pytest.mark.parametrize("place", ["l0=1,2,3", "javascript:1", "l0=1,2,3,4x"])
def test_a_place_that_is_none_is_refused(cast, client, meeting, place):
    image = make_slide_image(cast.north)
    page = add(client, meeting, slide_image=[image.pk], place=place)
    assert "not valid" in page.content.decode()
    url = reverse("board-items-list", kwargs={"board_pk": meeting.pk})
    sent = {"case": str(image.slide.case_id), "slide_image": str(image.pk), "place": place}
    assert client.post(url, sent, "application/json").status_code == 400
    assert not meeting.items.exists()


def test_the_order_is_changed_by_steps_and_by_places(client, meeting, three):
    a, b, c = (image.slide.case_id for image in three)
    item = meeting.items.get(case=c)
    move = reverse("board_item_move", args=[meeting.pk, item.pk])
    client.post(move, {"by": "-1"})
    assert order(meeting) == [(a, 1), (c, 2), (b, 3)]
    client.post(move, {"position": "1"})
    assert order(meeting) == [(c, 1), (a, 2), (b, 3)]
    client.post(move, {"position": "99"})
    assert order(meeting) == [(a, 1), (b, 2), (c, 3)]
    first = meeting.items.get(case=a)
    client.post(reverse("board_item_remove", args=[meeting.pk, first.pk]))
    assert order(meeting) == [(b, 1), (c, 2)]


def test_it_is_walked_through(client, meeting, three):
    ReportFactory(case=three[1].slide.case, diagnosis_line="Small cell carcinoma")
    beside = SlideImageFactory(slide=three[1].slide)
    page = walk(client, meeting, 2)
    text = page.content.decode()
    assert "2 of 3" in text
    assert "Small cell carcinoma" in text
    assert three[1].slide.case.accession_number in text
    assert 'href="?at=1"' in text
    assert 'href="?at=3"' in text
    assert {image.pk for image in page.context["tray"]} == {three[1].pk, beside.pk}
    assert walk(client, meeting, 2, slide=beside.pk).context["slide_image"] == beside
    # A slide of another case is not opened here.
    other = walk(client, meeting, 2, slide=three[0].pk)
    assert other.context["slide_image"].slide == three[1].slide
    assert 'href="?at=4"' not in walk(client, meeting, 3).content.decode()
    looks = AccessEvent.objects.filter(action="view", object_type="case")
    assert looks.filter(patient_id=three[1].slide.case.patient_id).exists()


def test_a_case_that_may_not_be_seen_is_a_gap_that_tells_nothing(cast, client, meeting, three):
    lent = make_slide_image(cast.south)
    ReportFactory(case=lent.slide.case, diagnosis_line="A hidden diagnosis")
    cohort = Cohort.objects.create(department=cast.south, name="Lent")
    CohortEntry.objects.create(cohort=cohort, slide_image=lent)
    cohort.shared_with.add(cast.north)
    add(client, meeting, slide_image=[lent.pk], question="A hidden question")
    seen = walk(client, meeting, 4).content.decode()
    assert "A hidden diagnosis" in seen
    assert "A hidden question" in seen
    cohort.shared_with.clear()
    case = lent.slide.case
    secrets = {
        "A hidden diagnosis",
        "A hidden question",
        case.accession_number,
        case.patient.mrn,
        case.patient.family_name,
        str(case.pk),
        str(lent.pk),
        str(BoardItem.objects.get(case=case).pk),
    }
    pages = [
        client.get(reverse("board", args=[meeting.pk])),
        walk(client, meeting, 4),
        walk(client, meeting, 3),
        client.get(reverse("board-items-list", kwargs={"board_pk": meeting.pk})),
    ]
    for page in pages:
        assert page.status_code == 200
        assert not [text for text in secrets if text in page.content.decode()]
    assert "4 of 4" in pages[1].content.decode()
    item = BoardItem.objects.get(case=case)
    for name in ("board_item_change", "board_item_move", "board_item_remove"):
        assert client.post(reverse(name, args=[meeting.pk, item.pk])).status_code == 404
    # The others still move around it.
    mine = meeting.items.get(position=3)
    client.post(reverse("board_item_move", args=[meeting.pk, mine.pk]), {"position": "4"})
    item.refresh_from_db()
    assert item.position == 3


def test_a_hidden_case_cannot_be_added(cast, client, meeting):
    foreign = make_slide_image(cast.south)
    assert (
        "not there any more" in add(client, meeting, case=[foreign.slide.case_id]).content.decode()
    )
    url = reverse("board-items-list", kwargs={"board_pk": meeting.pk})
    answer = client.post(url, {"case": str(foreign.slide.case_id)}, "application/json")
    assert answer.json()["code"] == "unknown_case"
    assert not meeting.items.exists()


def test_the_api_adds_once_and_moves(cast, client, meeting, three):
    url = reverse("board-items-list", kwargs={"board_pk": meeting.pk})
    case = str(three[0].slide.case_id)
    assert client.post(url, {"case": case}, "application/json").status_code == 409
    other = {"case": case, "slide_image": str(three[1].pk)}
    assert client.post(url, other, "application/json").json()["code"] == "slide_of_other_case"
    rows = client.get(url).json()["results"]
    assert [row["position"] for row in rows] == [1, 2, 3]
    detail = reverse("board-items-detail", kwargs={"board_pk": meeting.pk, "pk": rows[2]["id"]})
    change = {"position": 1, "slide_image": str(three[2].pk), "place": "l0=5,5,10,10"}
    answer = client.patch(detail, change, "application/json").json()
    assert (answer["position"], answer["slide_image"], answer["place"]) == (
        1,
        str(three[2].pk),
        "l0=5,5,10,10",
    )


def test_a_full_list_says_so(client, meeting, three, monkeypatch):
    monkeypatch.setattr("cases.services.boards.CASES_MOST", 3)
    more = make_slide_image(meeting.department)
    assert "200 cases" in add(client, meeting, case=[more.slide.case_id]).content.decode()
    assert meeting.items.count() == 3
