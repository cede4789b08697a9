"""Indexing of a slide image: states, the one transaction, and what heals it."""

import threading
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from cases.errors import Conflict, LeaseLost
from cases.models import AccessEvent
from cases.permissions import Role
from cases.services import work
from cases.signals import slide_image_ready
from cases.wsi.errors import CorruptError
from retrieval.engine.errors import ModelMissing
from retrieval.engine.mosaic import tokens_from_bytes
from retrieval.models import EmbeddingModel, SlideEmbedding, SlideIndex
from retrieval.services import features, index_queue, indexing
from retrieval.services.indexing import (
    Heartbeat,
    index_ensure,
    index_retry,
    index_run,
    index_sweep,
    reindex,
)
from retrieval.tasks import index_slide_task
from tests.factories import DepartmentFactory, make_member, make_slide_image
from tests.retrieval.fakes import PINK, VIOLET, ArraySlide, ColourEncoder, painted

pytestmark = pytest.mark.django_db
State = SlideIndex.State


@pytest.fixture
def model():
    EmbeddingModel.objects.filter(is_active=True).update(is_active=False)
    return EmbeddingModel.objects.create(
        name="fake-v1",
        modality="image",
        encoder="fake",
        aggregator="prototypes",
        weights_sha256="0" * 64,
        dimension=6,
        token_count=4,
        patch_px=32,
        mpp=2.0,
        centre=np.full(6, 0.25, "<f4").tobytes(),
        is_active=True,
    )


@pytest.fixture
def slide_image(model):
    return make_slide_image(DepartmentFactory(), mpp=1.0)


@pytest.fixture
def pixels(monkeypatch):
    """The slide that every path opens, and the encoder; both may be changed by a test."""
    rgb = painted(640, 640, (64, 64, 320, 512, PINK), (384, 64, 192, 512, VIOLET))
    world = SimpleNamespace(slide=ArraySlide(rgb), encoder=ColourEncoder())
    monkeypatch.setattr(indexing, "open_slide", lambda path, mpp: world.slide)
    monkeypatch.setattr(indexing, "_encoder", lambda name: world.encoder)
    return world


def messages():
    return [(row.key, row.task["func"], row.task["args"]) for row in OrmQ.objects.order_by("pk")]


def test_a_ready_slide_image_is_queued_in_the_same_commit(slide_image, model):
    slide_image_ready.send(type(slide_image), slide_image=slide_image)
    index = SlideIndex.objects.get(slide_image=slide_image)
    assert (index.state, index.model, index.department) == (
        State.QUEUED,
        model,
        slide_image.department,
    )
    assert index.enqueued_at
    assert messages() == [("indexing", index_queue.TASK, (str(index.pk),))]


def test_without_any_model_the_default_is_made(db):
    EmbeddingModel.objects.all().delete()
    index = index_ensure(slide_image=make_slide_image(DepartmentFactory()))
    assert index.model.name == "efficientnet-lite0-prototypes-v1"


def test_it_writes_embedding_features_and_state(slide_image, model, pixels, settings):
    index = index_ensure(slide_image=slide_image)
    assert index_slide_task(str(index.pk)) == State.INDEXED
    index.refresh_from_db()
    assert (index.state, index.attempts, index.lease_token) == (State.INDEXED, 1, None)
    stored = features.features_read(index.features_path)
    assert index.features_path == f"features/{slide_image.pk}/fake-v1.safetensors"
    assert len(stored.features) == len(stored.coords_l0) == index.patch_count > 50
    assert stored.size_l0 == 64
    assert index.timings["encode"] >= 0
    embedding = SlideEmbedding.objects.get(slide_image=slide_image, model=model)
    vector = np.array(embedding.vector)
    mean = stored.features.astype(np.float64).mean(0) - 0.25
    assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=2e-3)
    assert tokens_from_bytes(bytes(embedding.mosaic), 6).shape == (len(embedding.places), 6)
    assert embedding.department == slide_image.department
    folder = settings.DATA_DIR / "features" / str(slide_image.pk)
    assert [file.name for file in folder.iterdir()] == ["fake-v1.safetensors"]


def test_a_doubled_message_does_nothing(slide_image, pixels):
    index = index_ensure(slide_image=slide_image)
    assert index_run(index.pk) == State.INDEXED
    reads = pixels.slide.reads
    assert index_run(index.pk) is None
    assert index_run("00000000-0000-0000-0000-000000000000") is None
    assert pixels.slide.reads == reads
    assert SlideEmbedding.objects.count() == 1


@pytest.mark.parametrize(
    ("rgb", "fields", "code"),
    [
        (painted(640, 640), {}, "no_tissue"),
        (painted(40, 40, (0, 0, 40, 40, PINK)), {}, "too_small"),
        (painted(640, 640, background=(4, 4, 4)), {}, "fluorescence"),
        (painted(640, 640, (0, 0, 640, 640, PINK)), {"is_fluorescence": True}, "fluorescence"),
        (painted(640, 640, (0, 0, 640, 640, PINK)), {"mpp": 9.0}, "too_coarse"),
    ],
)
def test_a_slide_with_nothing_to_embed_is_skipped_with_its_reason(model, pixels, rgb, fields, code):
    pixels.slide = ArraySlide(rgb)
    slide_image = make_slide_image(DepartmentFactory(), **({"mpp": 1.0} | fields))
    index = index_ensure(slide_image=slide_image)
    assert index_run(index.pk) == State.SKIPPED
    index.refresh_from_db()
    assert index.reason_code == code
    assert index.reason
    assert not SlideEmbedding.objects.exists()


@pytest.mark.parametrize("error", [CorruptError(), ModelMissing("Not there. Install it.")])
def test_a_known_error_fails_at_once_with_its_reason(slide_image, pixels, monkeypatch, error):
    def broken(*args, **kwargs):
        raise error

    monkeypatch.setattr(indexing, "open_slide", broken)
    index = index_ensure(slide_image=slide_image)
    assert index_run(index.pk) == State.FAILED
    index.refresh_from_db()
    assert (index.reason_code, index.reason, index.attempts) == (error.code, error.message, 1)


def test_an_unexpected_error_is_tried_again_and_then_fails(
    slide_image, pixels, monkeypatch, settings, caplog
):
    settings.MAX_ATTEMPTS = 3

    def broken(*args, **kwargs):
        raise RuntimeError("/slides/of/Somebody")

    monkeypatch.setattr(indexing, "embed_slide", broken)
    index = index_ensure(slide_image=slide_image)
    for attempt in (1, 2, 3):
        with pytest.raises(RuntimeError):
            index_run(index.pk)
        index.refresh_from_db()
        assert index.attempts == attempt
        assert index.state == (State.FAILED if attempt == 3 else State.QUEUED)
        assert len(messages()) == min(attempt + 1, 3)
    assert "RuntimeError" in index.reason
    assert "Somebody" not in index.reason


def test_a_lost_lease_writes_nothing(slide_image, pixels, settings):
    index = index_ensure(slide_image=slide_image)
    plain = pixels.encoder.encode

    def taken_over(patches):
        SlideIndex.objects.filter(pk=index.pk).update(
            lease_token="12345678-1234-1234-1234-123456789012"
        )
        return plain(patches)

    pixels.encoder.encode = taken_over
    assert index_run(index.pk) is None
    index.refresh_from_db()
    assert index.state == State.RUNNING
    assert not SlideEmbedding.objects.exists()
    assert not (
        settings.DATA_DIR / "features" / str(slide_image.pk) / "fake-v1.safetensors"
    ).exists()


def test_a_result_that_cannot_be_committed_leaves_nothing(slide_image, pixels, monkeypatch):
    def full(prepared, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features, "features_place", full)
    index = index_ensure(slide_image=slide_image)
    with pytest.raises(OSError, match="No space"):
        index_run(index.pk)
    index.refresh_from_db()
    assert index.state == State.QUEUED
    assert not SlideEmbedding.objects.exists()


def test_changed_pixels_are_indexed_again_in_place(slide_image, model, pixels):
    index = index_ensure(slide_image=slide_image)
    index_run(index.pk)
    before = SlideEmbedding.objects.get().vector
    pixels.slide = ArraySlide(painted(640, 640, (64, 64, 512, 512, VIOLET)))
    slide_image_ready.send(type(slide_image), slide_image=slide_image)
    index.refresh_from_db()
    assert (index.state, index.attempts) == (State.QUEUED, 0)
    assert SlideEmbedding.objects.get().vector == before, "the old one serves meanwhile"
    assert index_run(index.pk) == State.INDEXED
    assert SlideEmbedding.objects.get().vector != before
    assert SlideIndex.objects.count() == 1


def test_pixels_that_change_while_indexing_void_the_running_job(slide_image, pixels):
    index = index_ensure(slide_image=slide_image)
    plain = pixels.encoder.encode
    resent = []

    def new_pixels_arrive(patches):
        if not resent:
            resent.append(index_ensure(slide_image=slide_image))
        return plain(patches)

    pixels.encoder.encode = new_pixels_arrive
    assert index_run(index.pk) is None
    index.refresh_from_db()
    assert index.state == State.QUEUED
    assert index_run(index.pk) == State.INDEXED


def test_a_slide_that_lost_its_tissue_loses_its_embedding(slide_image, pixels):
    index = index_ensure(slide_image=slide_image)
    index_run(index.pk)
    pixels.slide = ArraySlide(painted(640, 640))
    index_ensure(slide_image=slide_image)
    assert index_run(index.pk) == State.SKIPPED
    assert not SlideEmbedding.objects.exists()


def test_retry_is_for_those_who_may_and_for_what_failed(slide_image, model, pixels):
    index = index_ensure(slide_image=slide_image)
    technician = make_member(slide_image.department, Role.TECHNICIAN)
    with pytest.raises(Conflict):
        index_retry(index=index, user=technician)
    SlideIndex.objects.filter(pk=index.pk).update(
        state=State.FAILED, reason_code="x", reason="y", attempts=3
    )
    with pytest.raises(PermissionDenied):
        index_retry(index=index, user=make_member(slide_image.department, Role.RESEARCHER))
    index_retry(index=index, user=technician)
    index.refresh_from_db()
    assert (index.state, index.attempts, index.reason) == (State.QUEUED, 0, "")
    assert len(messages()) == 2
    event = AccessEvent.objects.get(user=technician)
    assert (event.object_id, event.patient_id) == (
        str(index.pk),
        slide_image.slide.case.patient_id,
    )


def test_reindex_takes_the_states_and_department_it_is_told(model):
    here, there = make_slide_image(DepartmentFactory()), make_slide_image(DepartmentFactory())
    for slide_image in (here, there):
        index_ensure(slide_image=slide_image)
    SlideIndex.objects.update(state=State.FAILED, reason_code="x")
    assert reindex(states=[State.SKIPPED]) == 0
    assert reindex(states=[State.FAILED], department_code=here.department.code) == 1
    assert SlideIndex.objects.get(slide_image=here).state == State.QUEUED
    assert SlideIndex.objects.get(slide_image=there).state == State.FAILED


def test_the_sweep_queues_lost_jobs_and_fails_those_out_of_attempts(model, settings):
    settings.MAX_ATTEMPTS = 2
    first, second = (
        index_ensure(slide_image=make_slide_image(DepartmentFactory())) for _ in range(2)
    )
    OrmQ.objects.all().delete()
    for index in (first, second):
        assert work.claim(SlideIndex, index.pk)
    past = timezone.now() - timedelta(seconds=1)
    SlideIndex.objects.update(lease_expires_at=past)
    SlideIndex.objects.filter(pk=second.pk).update(attempts=2)
    counts = index_sweep()
    assert (counts["requeued"], counts["failed"]) == (1, 1)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (State.QUEUED, State.FAILED)
    assert second.reason_code == "worker_lost"
    assert messages() == [("indexing", index_queue.TASK, (str(first.pk),))]


def test_the_sweep_sends_lost_messages_again_and_makes_missing_rows(model):
    index = index_ensure(slide_image=make_slide_image(DepartmentFactory()))
    bare = make_slide_image(DepartmentFactory())
    OrmQ.objects.all().delete()
    assert index_sweep()["missing"] == 1
    assert SlideIndex.objects.get(slide_image=bare).state == State.QUEUED
    OrmQ.objects.all().delete()
    SlideIndex.objects.update(enqueued_at=timezone.now() - timedelta(hours=1))
    assert index_sweep()["forgotten"] == 2
    assert {args for _, _, args in messages()} >= {(str(index.pk),)}
    assert index_sweep() == {"requeued": 0, "failed": 0, "forgotten": 0, "missing": 0}
    # A cluster that is away: its messages lie there, and no more are added.
    SlideIndex.objects.update(enqueued_at=timezone.now() - timedelta(hours=1))
    assert index_sweep()["forgotten"] == 0


@pytest.mark.django_db(transaction=True)
def test_the_heartbeat_keeps_the_lease_while_a_step_is_silent(model, settings):
    settings.LEASE_SECONDS = 0.6
    index = index_ensure(slide_image=make_slide_image(DepartmentFactory()))
    lease = work.claim(SlideIndex, index.pk)
    with Heartbeat(lease) as heartbeat:
        heartbeat.tell(3, 9, "encode")
        threading.Event().wait(1.5)
        assert work.expire_leases(SlideIndex) == ([], [])
        index.refresh_from_db()
        assert (index.progress_done, index.progress_total) == (3, 9)
        SlideIndex.objects.filter(pk=index.pk).update(state=State.QUEUED)
        threading.Event().wait(0.8)
        with pytest.raises(LeaseLost):
            heartbeat.tell(4, 9, "encode")
    assert connection.is_usable()


def test_damaged_features_are_a_named_error(slide_image, pixels, settings):
    index = index_ensure(slide_image=slide_image)
    index_run(index.pk)
    index.refresh_from_db()
    file = settings.DATA_DIR / index.features_path
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(features.FeaturesUnreadable):
        features.features_read(index.features_path)
    with pytest.raises(features.FeaturesUnreadable):
        features.features_read("features/none.safetensors")
