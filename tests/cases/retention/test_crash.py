"""kill -9 while a case is deleted: it is whole, or it goes on until all of it is gone."""

import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from cases.models import Case, CaseDeletion, ClinicalChange, SlideImage
from cases.services import retention_run
from tests.cases.intake.conftest import stored
from tests.cases.intake.test_crash import worker_environment

ROOT = Path(__file__).resolve().parents[3]

# Where the worker dies: (object, name, before or after, at which call, whether the case is gone).
MOMENTS = {
    "before anything": ("retention_run", "_rows_delete", "before", 1, False),
    "rows gone, not committed": ("retention_run", "access_event_record", "after", 1, False),
    "rows gone, files there": ("retention_run", "_files_remove", "before", 1, True),
    "in the middle of the files": ("store", "remove", "after", 1, True),
    "all gone, not finished": ("retention_run", "_files_remove", "after", 1, True),
}

WORKER = """
import os, signal, sys
import django
django.setup()
from cases.row_scope import process_acts_for_system
from cases.services import retention_run, store
process_acts_for_system()
module, name, when, call = sys.argv[2:6]
place = {"retention_run": retention_run, "store": store}[module]
original, calls = getattr(place, name), 0
def deadly(*args, **kwargs):
    global calls
    calls += 1
    if when == "before" and calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if when == "after" and calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(place, name, deadly)
retention_run.deletion_run(sys.argv[1])
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_killed_at_any_moment(old_case, delete, data_dir, moment):
    module, name, when, call, is_gone = MOMENTS[moment]
    case = old_case()
    deletion = delete(case, run=False)
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, str(deletion.pk), module, name, when, str(call)],
        cwd=ROOT,
        env=worker_environment(data_dir),
        capture_output=True,
        text=True,
    )
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    assert Case.objects.filter(pk=case.pk).exists() is not is_gone
    assert SlideImage.objects.exists() is not is_gone
    OrmQ.objects.all().delete()  # the message died with the worker
    past = timezone.now() - timedelta(seconds=1)
    CaseDeletion.objects.filter(state="running").update(lease_expires_at=past)
    retention_run.sweep_deletions()
    assert OrmQ.objects.count() == 1
    retention_run.deletion_run(deletion.pk)
    deletion.refresh_from_db()
    assert (deletion.state, deletion.attempts) == ("finished", 2)
    assert not Case.objects.exists() and not SlideImage.objects.exists()
    assert not ClinicalChange.objects.filter(case_id=case.pk).exists()
    for folder in ("slides", "thumbnails", "derived"):
        assert stored(data_dir, folder) == set(), folder
    # A doubled message finds nothing to do.
    retention_run.deletion_run(deletion.pk)
    assert CaseDeletion.objects.get().attempts == 2
