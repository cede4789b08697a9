"""A series that may still grow waits, is indexed once when it is whole, and again when it grew."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from cases.models import SlideImage
from cases.services.arrivals import images_declare_whole
from cases.signals import slide_image_ready
from retrieval.models import SlideEmbedding, SlideIndex
from retrieval.services import indexing
from retrieval.services.indexing import SETTLING, index_run, index_sweep, index_wake_settled
from tests.factories import DepartmentFactory, make_slide_image
from tests.retrieval.fakes import PINK, ArraySlide, ColourEncoder, painted
from tests.retrieval.test_indexing import model  # noqa: F401  (a fixture)

pytestmark = pytest.mark.django_db
State = SlideIndex.State


@pytest.fixture
def pixels(monkeypatch):
    world = SimpleNamespace(slide=ArraySlide(painted(640, 640, (64, 64, 512, 512, PINK))))
    monkeypatch.setattr(indexing, "open_slide", lambda path, mpp: world.slide)
    monkeypatch.setattr(indexing, "_encoder", lambda name: ColourEncoder())
    return world


@pytest.fixture
def slide_image(model):  # noqa: F811
    image = make_slide_image(DepartmentFactory(), mpp=1.0)
    OrmQ.objects.all().delete()
    return image


def arrive(image, seconds: float) -> SlideIndex:
    """Tell that instances came, and that more may come for so many seconds."""
    image.settles_at = timezone.now() + timedelta(seconds=seconds)
    image.save()
    slide_image_ready.send(SlideImage, slide_image=image)
    return SlideIndex.objects.get(slide_image=image)


def pass_time(image) -> None:
    SlideImage.objects.filter(pk=image.pk).update(settles_at=timezone.now() - timedelta(seconds=1))


def test_it_waits_until_the_quiet_time_is_over_and_is_woken_once(slide_image, pixels):
    index = arrive(slide_image, 60)
    assert (index.state, index.reason_code) == (State.QUEUED, SETTLING)
    assert "Waiting for more instances" in index.reason
    assert not OrmQ.objects.exists()
    # Neither a stray message nor a sweep starts it early.
    assert index_run(index.pk) is None
    index_sweep()
    assert not OrmQ.objects.exists()
    pass_time(slide_image)
    index_sweep()
    index_sweep()
    assert OrmQ.objects.count() == 1
    assert index_run(index.pk) == State.INDEXED


def test_late_instances_open_it_again_and_it_is_indexed_again_exactly_once(slide_image, pixels):
    index = arrive(slide_image, 0)
    assert index_run(index.pk) == State.INDEXED
    before = SlideEmbedding.objects.get()
    OrmQ.objects.all().delete()
    for _late in range(3):
        index = arrive(slide_image, 60)
        assert (index.state, index.reason_code) == (State.QUEUED, SETTLING)
        assert index_run(index.pk) is None
    # The old embedding serves until the new one is there.
    assert SlideEmbedding.objects.get().vector == before.vector
    pass_time(slide_image)
    assert index_wake_settled() == 1
    assert OrmQ.objects.count() == 1
    reads = pixels.slide.reads
    assert index_run(index.pk) == State.INDEXED
    assert pixels.slide.reads > reads
    assert index_run(index.pk) is None
    assert index_wake_settled() == 0


def test_a_series_declared_whole_does_not_wait(slide_image, pixels):
    index = arrive(slide_image, 600)
    assert images_declare_whole([slide_image]) == 1
    index.refresh_from_db()
    assert (index.state, index.reason_code) == (State.QUEUED, "")
    assert OrmQ.objects.count() == 1
    assert index_run(index.pk) == State.INDEXED
    # One that does not wait is not indexed again for it.
    assert images_declare_whole([slide_image]) == 0
    assert OrmQ.objects.count() == 1


def test_the_forgotten_sweep_leaves_what_still_settles(slide_image):
    index = arrive(slide_image, 600)
    SlideIndex.objects.update(enqueued_at=timezone.now() - timedelta(hours=1))
    index_sweep()
    assert not OrmQ.objects.exists()
    assert SlideIndex.objects.get(pk=index.pk).reason_code == SETTLING
