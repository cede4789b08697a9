"""kill -9 in the middle of re-embedding: searches go on, nothing is lost, nothing is doubled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from retrieval.models import SlideEmbedding, SlideIndex
from retrieval.querysets import vector_index_is_ready
from retrieval.services.indexing import index_sweep
from retrieval.services.models import Modality, active_model
from retrieval.services.switching import model_activate, model_coverage, model_reembed_here
from tests.factories import DepartmentFactory
from tests.flows.test_kill_worker import database_url
from tests.live_site import wait_until
from tests.retrieval.made_archive import made_archive
from tests.retrieval.trained import aligner_model, indexed_archive, prototype_model

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
State = SlideIndex.State
SLIDES = 60


def command(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "pathsearch_site.settings.testing",
            "DATABASE_URL": database_url(),
            "PATHSEARCH_TEST_DATA_DIR": str(settings.DATA_DIR),
            "PATHSEARCH_LEASE_SECONDS": "2",
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_a_killed_re_embedding_goes_on_where_it_was():
    archive = made_archive(slides=SLIDES)
    old = prototype_model()
    indexed_archive(DepartmentFactory(), old, count=SLIDES, archive=archive)
    new = aligner_model(archive)
    running = command("models", "reembed", "new", "--now")
    try:
        done = SlideIndex.objects.filter(model=new, state=State.INDEXED)
        wait_until(lambda: done.count() >= 5, seconds=120, what="some embedded slides")
    finally:
        running.kill()
        running.wait()
    assert active_model(Modality.IMAGE) == old
    assert vector_index_is_ready(SlideEmbedding, new), "built beside the running site"
    kept = dict(SlideEmbedding.objects.filter(model=new).values_list("slide_image_id", "pk"))
    assert 5 <= len(kept) < SLIDES
    assert done.count() == len(kept), "a row says indexed exactly where a vector is"

    taken = SlideIndex.objects.filter(model=new, state=State.RUNNING)
    wait_until(
        lambda: not taken.filter(lease_expires_at__gte=timezone.now()).exists(),
        seconds=30,
        what="the end of the lease",
    )
    index_sweep()
    assert model_reembed_here(model=new).missing == 0
    assert SlideEmbedding.objects.filter(model=new).count() == SLIDES
    after = dict(SlideEmbedding.objects.filter(model=new).values_list("slide_image_id", "pk"))
    assert kept.items() <= after.items(), "what was done was not done again"
    model_activate(model=new)
    assert model_coverage(old).missing == 0
