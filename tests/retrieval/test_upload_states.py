"""The page of an upload follows each slide until it is indexed, and tells the time left."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from cases.models import SlideUpload, UploadItem
from cases.permissions import Role
from cases.templatetags.portal import time_left
from retrieval.models import SlideIndex
from tests.factories import DepartmentFactory, make_member, make_slide_image
from tests.retrieval.vectors import make_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def lung():
    return DepartmentFactory(code="lung")


@pytest.fixture
def index(lung):
    image = make_slide_image(lung)
    upload = SlideUpload.objects.create(department=lung, state="finished")
    UploadItem.objects.create(
        department=lung, upload=upload, name="a.svs", key="1", state="accepted", slide_image=image
    )
    return SlideIndex.objects.create(
        department=lung, slide_image=image, model=make_model("image"), state="queued"
    )


def page(client, lung, role=Role.PATHOLOGIST) -> str:
    client.force_login(make_member(lung, role))
    upload = SlideUpload.objects.get()
    return client.get(reverse("upload", args=[upload.pk])).content.decode()


def test_it_asks_again_until_the_index_is_made(client, lung, index):
    polls = 'hx-trigger="load delay:4s"'
    assert polls in page(client, lung)
    index.state, index.started_at = "running", timezone.now() - timedelta(seconds=60)
    index.progress_done, index.progress_total = 20, 100
    index.save()
    text = page(client, lung)
    assert polls in text
    assert "Indexing 20 %" in text
    assert "about 4 minutes left" in text
    index.state = "indexed"
    index.save()
    text = page(client, lung)
    assert polls not in text
    assert "Indexed" in text


def test_a_failed_index_says_why_and_is_tried_again_from_here(client, lung, index):
    index.state, index.reason_code, index.reason = "failed", "broken", "The file is cut short."
    index.save()
    retry = reverse("index_retry", args=[index.pk])
    text = page(client, lung)
    assert "The file is cut short. <code>broken</code>" in text
    assert f'action="{retry}"' in text
    assert retry not in page(client, lung, Role.RESEARCHER)
    client.force_login(make_member(lung, Role.TECHNICIAN))
    back = reverse("upload", args=[SlideUpload.objects.get().pk])
    assert client.post(retry, {"next": back}).url == back
    index.refresh_from_db()
    assert index.state == "queued"


@pytest.mark.parametrize(
    ("done", "total", "known"), [(0, 10, False), (10, 10, False), (0, 0, False), (4, 10, True)]
)
def test_the_time_left_is_told_only_where_there_is_a_pace(done, total, known):
    row = SlideIndex(progress_done=done, progress_total=total)
    assert row.seconds_left is None
    row.started_at = timezone.now() - timedelta(seconds=8)
    assert (row.seconds_left is not None) is known
    if known:
        assert row.seconds_left == pytest.approx(12, abs=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (12, "less than a minute left"),
        (60, "about 1 minute left"),
        (290, "about 5 minutes left"),
        (7300, "about 2 hours left"),
    ],
)
def test_times_are_told_as_people_do(seconds, text):
    assert time_left(seconds) == text
