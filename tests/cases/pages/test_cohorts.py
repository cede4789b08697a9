"""Cohorts: who fills, shares and exports them, and what cannot get in or out."""

import csv
from io import StringIO

import pytest
from django.urls import reverse

from cases.models import AccessEvent, Cohort, CohortEntry, SlideImage
from cases.permissions import Role
from tests.factories import ReportFactory, SlideImageFactory, make_slide_image


@pytest.fixture
def cohort(cast) -> Cohort:
    return Cohort.objects.create(department=cast.north, name="Teaching")


@pytest.fixture
def slide_image(cast) -> SlideImage:
    return make_slide_image(cast.north)


def add(client, cohort, **data):
    return client.post(reverse("cohort_add", args=[cohort.pk]), data)


def inside(cohort) -> set:
    entries = cohort.entries.filter(removed_at__isnull=True)
    return set(entries.values_list("slide_image_id", flat=True))


CURATORS = [Role.PATHOLOGIST, Role.RESEARCHER, Role.DEPARTMENT_ADMINISTRATOR]


@pytest.mark.parametrize("role", CURATORS)
def test_it_is_made_where_one_may_curate(cast, role):
    client = cast.client(cast.north, role)
    url = reverse("cohort_new")
    made = client.post(url, {"department": cast.north.pk, "name": "Set", "description": "x"})
    assert made["Location"] == reverse("cohort", args=[Cohort.objects.get().pk])
    assert AccessEvent.objects.filter(action="create", object_type="cohort").count() == 1
    again = client.post(url, {"department": cast.north.pk, "name": "Set"})
    assert again.status_code == 200
    assert "name" in again.context["form"].errors
    foreign = client.post(url, {"department": cast.south.pk, "name": "Other"})
    assert "department" in foreign.context["form"].errors
    assert Cohort.objects.count() == 1


def test_a_technician_makes_none(cast):
    client = cast.client(cast.north, Role.TECHNICIAN)
    assert client.get(reverse("cohort_new")).status_code == 403


def test_it_takes_ticked_slides_once(cast, cohort, slide_image):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    other = make_slide_image(cast.north)
    add(client, cohort, slide_image=[slide_image.pk, other.pk], note="typical")
    add(client, cohort, slide_image=[slide_image.pk])
    assert inside(cohort) == {slide_image.pk, other.pk}
    assert cohort.entries.count() == 2
    changes = AccessEvent.objects.filter(action="change", object_type="cohort")
    assert [set(event.detail["added"]) for event in changes] == [
        {str(slide_image.pk), str(other.pk)}
    ]


def test_it_takes_whole_cases(cast, cohort, slide_image):
    beside = SlideImageFactory(slide=slide_image.slide)
    add(cast.client(cast.north, Role.PATHOLOGIST), cohort, case=[slide_image.slide.case.pk])
    assert inside(cohort) == {slide_image.pk, beside.pk}


def test_it_takes_what_a_filtered_list_means(cast, cohort):
    lung, colon = make_slide_image(cast.north), make_slide_image(cast.north)
    colon.slide.specimen.organ = "Colon"
    colon.slide.specimen.save()
    make_slide_image(cast.south)
    client = cast.client(cast.north, Role.PATHOLOGIST)
    add(client, cohort, all_filtered="1", organ="Lung")
    assert inside(cohort) == {lung.pk}
    add(client, cohort, all_filtered="1")
    assert inside(cohort) == {lung.pk, colon.pk}


def test_filters_that_mean_nothing_do_not_take_everything(cast, cohort, slide_image):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    response = add(client, cohort, all_filtered="1", organ="No such organ")
    assert response.status_code == 400
    assert not inside(cohort)


def test_it_refuses_slides_of_another_department(cast, cohort):
    """Also one that is shared: sharing would pass on what is not theirs."""
    foreign = make_slide_image(cast.south)
    shared = make_slide_image(cast.south)
    lent = Cohort.objects.create(department=cast.south, name="Lent")
    CohortEntry.objects.create(cohort=lent, slide_image=shared)
    lent.shared_with.add(cast.north)
    client = cast.client(cast.north, Role.DEPARTMENT_ADMINISTRATOR)
    for hidden in (foreign, shared):
        add(client, cohort, slide_image=[hidden.pk])
        assert not inside(cohort)
    own = make_slide_image(cast.north)
    add(client, cohort, slide_image=[own.pk, shared.pk])
    assert inside(cohort) == {own.pk}


def test_a_guest_sees_but_does_not_change_it(cast, cohort, slide_image):
    CohortEntry.objects.create(cohort=cohort, slide_image=slide_image)
    cohort.shared_with.add(cast.south)
    guest = cast.client(cast.south, Role.DEPARTMENT_ADMINISTRATOR)
    page = guest.get(reverse("cohort", args=[cohort.pk]))
    assert [entry.slide_image_id for entry in page.context["page_obj"]] == [slide_image.pk]
    own = make_slide_image(cast.south)
    assert add(guest, cohort, slide_image=[own.pk]).status_code == 403
    entry = cohort.entries.get().pk
    remove = reverse("cohort_remove", args=[cohort.pk])
    assert guest.post(remove, {"entry": entry, "reason": "x"}).status_code == 403
    assert guest.post(reverse("cohort_share", args=[cohort.pk])).status_code == 403
    assert inside(cohort) == {slide_image.pk}
    assert list(cohort.shared_with.all()) == [cast.south]


def test_who_has_no_part_in_it_does_not_know_of_it(cast, cohort):
    client = cast.client(cast.south, Role.DEPARTMENT_ADMINISTRATOR)
    assert client.get(reverse("cohort", args=[cohort.pk])).status_code == 404
    assert client.get(reverse("cohort_export", args=[cohort.pk])).status_code == 404
    for name in ("cohort_add", "cohort_remove", "cohort_share"):
        assert client.post(reverse(name, args=[cohort.pk])).status_code == 404
    assert not client.get(reverse("cohorts")).context["page_obj"].object_list


def test_a_slide_leaves_with_a_reason_that_stays(cast, cohort, slide_image):
    entry = CohortEntry.objects.create(cohort=cohort, slide_image=slide_image)
    client = cast.client(cast.north, Role.PATHOLOGIST)
    url = reverse("cohort_remove", args=[cohort.pk])
    client.post(url, {"entry": entry.pk, "reason": "   "})
    assert inside(cohort) == {slide_image.pk}
    client.post(url, {"entry": [entry.pk, "no-uuid"], "reason": "out of focus"})
    assert not inside(cohort)
    entry.refresh_from_db()
    assert entry.removed_reason == "out of focus"
    page = client.get(reverse("cohort", args=[cohort.pk]))
    assert b"out of focus" in page.content
    cohort.shared_with.add(cast.south)
    guest = cast.client(cast.south, Role.PATHOLOGIST)
    assert b"out of focus" not in guest.get(reverse("cohort", args=[cohort.pk])).content
    # it may come back
    add(client, cohort, slide_image=[slide_image.pk])
    assert inside(cohort) == {slide_image.pk}


def test_an_entry_of_another_cohort_does_not_leave(cast, cohort, slide_image):
    other = Cohort.objects.create(department=cast.north, name="Other")
    entry = CohortEntry.objects.create(cohort=other, slide_image=slide_image)
    client = cast.client(cast.north, Role.PATHOLOGIST)
    client.post(
        reverse("cohort_remove", args=[cohort.pk]), {"entry": entry.pk, "reason": "mistake"}
    )
    assert inside(other) == {slide_image.pk}


def test_sharing_opens_and_closes_its_slides(cast, cohort, slide_image):
    CohortEntry.objects.create(cohort=cohort, slide_image=slide_image)
    url = reverse("cohort_share", args=[cohort.pk])
    assert (
        cast.client(cast.north, Role.PATHOLOGIST).post(url, {"departments": cast.south.pk})
    ).status_code == 403
    admin = cast.client(cast.north, Role.DEPARTMENT_ADMINISTRATOR)
    guest = cast.client(cast.south, Role.PATHOLOGIST)
    case = reverse("case", args=[slide_image.slide.case.pk])
    assert guest.get(case).status_code == 404
    admin.post(url, {"departments": [cast.south.pk]})
    assert guest.get(case).status_code == 200
    admin.post(url, {})
    assert guest.get(case).status_code == 404
    shares = AccessEvent.objects.filter(action="share").order_by("at")
    assert [event.detail for event in shares] == [
        {"opened_to": [cast.south.pk], "closed_to": []},
        {"opened_to": [], "closed_to": [cast.south.pk]},
    ]


def exported(client, cohort) -> list[dict[str, str]]:
    response = client.get(reverse("cohort_export", args=[cohort.pk]))
    assert response.status_code == 200
    return list(csv.DictReader(StringIO(response.content.decode("utf-8-sig"))))


def test_it_exports_its_slides_and_records_it(cast, cohort, slide_image):
    CohortEntry.objects.create(cohort=cohort, slide_image=slide_image, note="typical")
    gone = CohortEntry.objects.create(cohort=cohort, slide_image=make_slide_image(cast.north))
    CohortEntry.objects.filter(pk=gone.pk).update(
        removed_at=gone.created_at, removed_reason="blurred"
    )
    ReportFactory(case=slide_image.slide.case, diagnosis_line="Müller’s tumour, “rare”")
    rows = exported(cast.client(cast.north, Role.RESEARCHER), cohort)
    assert [row["slide_image_id"] for row in rows] == [str(slide_image.pk)]
    assert rows[0]["diagnosis_line"] == "Müller’s tumour, “rare”"
    assert rows[0]["organ"] == "Lung"
    event = AccessEvent.objects.get(action="export")
    assert event.detail == {"rows": 1}


@pytest.mark.parametrize("role", [Role.TECHNICIAN])
def test_who_may_not_export_does_not(cast, cohort, role):
    client = cast.client(cast.north, role)
    assert client.get(reverse("cohort_export", args=[cohort.pk])).status_code == 403
    assert not AccessEvent.objects.filter(action="export").exists()


@pytest.mark.parametrize(
    "text", ["=HYPERLINK(1)", "+1", "-1+1", "@SUM(A1)", "\t=1", "  =1", "\r=1", "\n=1"]
)
def test_no_cell_of_an_export_is_a_formula(cast, cohort, slide_image, text):
    CohortEntry.objects.create(cohort=cohort, slide_image=slide_image, note=text)
    ReportFactory(case=slide_image.slide.case, diagnosis_line=text)
    row = exported(cast.client(cast.north, Role.PATHOLOGIST), cohort)[0]
    for field in ("note", "diagnosis_line"):
        assert row[field].startswith("'")
        assert row[field].lstrip("'").strip() == text.strip()


def test_it_returns_to_pages_of_this_site_only(cast, cohort, slide_image):
    client = cast.client(cast.north, Role.PATHOLOGIST)
    own = add(client, cohort, slide_image=slide_image.pk, next="/?organ=Lung")
    assert own["Location"] == "/?organ=Lung"
    for foreign in ("https://elsewhere.example/", "//elsewhere.example", "javascript:alert(1)"):
        response = add(client, cohort, slide_image=slide_image.pk, next=foreign)
        assert response["Location"] == reverse("cohort", args=[cohort.pk])
