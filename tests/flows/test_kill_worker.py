"""kill -9 of the indexing cluster, at any point: in the end there is exactly one index."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from cases.demo.pyramid import pyramid
from cases.demo.tiff import write_tiff
from cases.demo.tissue import paint_tissue
from retrieval.models import SlideEmbedding, SlideIndex
from retrieval.services.features import features_read
from retrieval.services.indexing import index_enqueue, index_ensure, index_sweep
from tests.factories import DepartmentFactory, make_slide_image
from tests.live_site import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
State = SlideIndex.State
LEASE_SECONDS = 2


def database_url() -> str:
    """Return the URL of the test database, for child processes."""
    at = connection.settings_dict
    password = f":{quote(at['PASSWORD'])}" if at["PASSWORD"] else ""
    host = at["OPTIONS"].get("host") or at["HOST"]
    if host.startswith("/"):
        return f"postgresql://{at['USER']}{password}@/{at['NAME']}?host={quote(host)}"
    return f"postgresql://{at['USER']}{password}@{host}:{at['PORT'] or 5432}/{at['NAME']}"


class Cluster:
    """`manage.py qcluster` for indexing, in a process group of its own."""

    def __init__(self, log: Path) -> None:
        self.log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "qcluster"],
            cwd=ROOT,
            env=os.environ
            | {
                "DJANGO_SETTINGS_MODULE": "pathsearch_site.settings.testing",
                "DATABASE_URL": database_url(),
                "PATHSEARCH_TEST_DATA_DIR": str(settings.DATA_DIR),
                "PATHSEARCH_LEASE_SECONDS": str(LEASE_SECONDS),
                "PATHSEARCH_BATCH": "4",
                "PATHSEARCH_THREADS": "1",
                "Q_CLUSTER_NAME": "indexing",
            },
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def kill(self) -> None:
        """kill -9 the parent, the sentinel, the worker, all of them."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()
            self.log.close()


@pytest.fixture
def clusters(tmp_path):
    """Return what starts a cluster; none outlives the test."""
    started = []

    def start() -> Cluster:
        started.append(Cluster(tmp_path / "qcluster.log"))
        return started[-1]

    yield start
    for cluster in started:
        cluster.kill()


@pytest.fixture
def index():
    tissue = paint_tissue("colon_adenocarcinoma", 1, (2464, 2464), full_bleed=True)
    slide_image = make_slide_image(
        DepartmentFactory(), mpp=0.5, path="slides/kill/slide.tiff", width_l0=2464, height_l0=2464
    )
    file = settings.DATA_DIR / slide_image.path
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tiff(file, pyramid(tissue), 0.5, description="tissue", model="none")
    return index_ensure(slide_image=slide_image)


def now(index: SlideIndex) -> SlideIndex:
    index.refresh_from_db()
    return index


def wait_for(index: SlideIndex, condition, what: str) -> None:
    wait_until(lambda: condition(now(index)), seconds=90, what=what)


def just_started(index, cluster):
    wait_for(index, lambda i: i.state == State.RUNNING, "the claim")
    cluster.kill()


def in_the_middle(index, cluster):
    wait_for(index, lambda i: i.progress_done > 0, "the first encoded patches")
    cluster.kill()
    assert index.progress_done < index.progress_total


def just_before_the_commit(index, cluster):
    blocked = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND query LIKE 'INSERT INTO \"retrieval_slideembedding\"%%'"
    )
    with psycopg.connect(database_url()) as lock:
        # The worker stands in its result's transaction, with everything done, until we let go.
        lock.execute("LOCK TABLE retrieval_slideembedding IN SHARE MODE")

        def waiting():
            with connection.cursor() as cursor:
                cursor.execute(blocked)
                return cursor.fetchone()

        wait_until(waiting, seconds=90, what="the insert of the embedding")
        cluster.kill()


def test_the_cluster_works_and_leaves_no_message(index, clusters):
    clusters()
    wait_for(index, lambda i: i.state == State.INDEXED, "the index")
    wait_until(lambda: not OrmQ.objects.exists(), seconds=30, what="the acknowledgement")
    assert index.attempts == 1
    assert SlideEmbedding.objects.count() == 1


@pytest.mark.parametrize("kill", [just_started, in_the_middle, just_before_the_commit])
def test_a_killed_cluster_ends_after_restart_in_one_finished_index(index, clusters, kill):
    kill(index, clusters())
    assert now(index).state == State.RUNNING
    assert not SlideEmbedding.objects.exists()
    wait_for(index, lambda i: i.lease_expires_at < timezone.now(), "the end of the lease")
    assert index_sweep()["requeued"] == 1
    assert now(index).state == State.QUEUED
    assert index.reason_code == "worker_lost"

    clusters()
    wait_for(index, lambda i: i.state == State.INDEXED, "the index after the restart")
    assert index.attempts == 2
    assert index.reason == ""
    embedding = SlideEmbedding.objects.get()
    stored = features_read(index.features_path)
    assert len(stored.features) == index.patch_count > 100
    assert np.isfinite(stored.features).all()
    folder = (settings.DATA_DIR / index.features_path).parent
    assert len(list(folder.iterdir())) == 1

    # The killed cluster never acknowledged its message: delivered again, it changes nothing.
    OrmQ.objects.update(lock=timezone.now() - timedelta(seconds=1))
    wait_until(lambda: not OrmQ.objects.exists(), seconds=30, what="the doubled message")
    assert now(index).attempts == 2
    assert SlideEmbedding.objects.get().pk == embedding.pk


def test_a_cluster_killed_after_the_commit_has_nothing_to_do_again(index, clusters):
    cluster = clusters()
    wait_for(index, lambda i: i.state == State.INDEXED, "the index")
    cluster.kill()
    finished_at = index.finished_at
    OrmQ.objects.all().delete()
    index_sweep()
    # The message that the killed cluster may not have acknowledged.
    index_enqueue(index)
    clusters()
    wait_until(lambda: not OrmQ.objects.exists(), seconds=60, what="the doubled message")
    assert (now(index).attempts, index.finished_at) == (1, finished_at)
    assert SlideEmbedding.objects.count() == 1


def test_a_slide_that_kills_its_worker_each_time_fails_in_the_end(index, clusters, settings):
    settings.MAX_ATTEMPTS = 2
    for attempt in (1, 2):
        just_started(index, clusters())
        assert now(index).attempts == attempt
        wait_for(index, lambda i: i.lease_expires_at < timezone.now(), "the end of the lease")
        index_sweep()
    assert now(index).state == State.FAILED
    assert index.reason_code == "worker_lost"
    assert not SlideEmbedding.objects.exists()
