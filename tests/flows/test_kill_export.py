"""kill -9 on a process that makes an export, between two slides: nothing half, nothing double."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from cases.models import AccessEvent, Export
from cases.permissions import Role
from cases.services import export_run, exports
from cases.services.export_projects import export_project_open
from tests.cases.intake.conftest import deliver, department, technician  # noqa: F401  (fixtures)
from tests.factories import make_member
from tests.flows.test_kill_worker import database_url
from tests.live_site import wait_until
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).resolve().parents[2]
# Stops for ever before the second slide is searched, with the first one in the archive.
_MAKE = """
import sys, time
from cases.services import export_run
kept, calls = export_run.scan_file, []
def slow(*args):
    calls.append(1)
    if len(calls) == 2:
        time.sleep(600)
    kept(*args)
export_run.scan_file = slow
export_run.export_run({pk!r})
"""


def test_a_killed_export_is_made_once_and_whole(deliver, department, tmp_path):  # noqa: F811
    images = []
    for number in (1, 2):
        folder = write_dicom_slide(
            tmp_path / str(number), seed=number, levels=1, accession_number=f"S26-{number}"
        )
        (item,) = deliver(folder).items.all()
        images.append(item.slide_image)
    administrator = make_member(department, Role.DEPARTMENT_ADMINISTRATOR)
    project = export_project_open(user=administrator, department=department, name="Study")
    export = exports.export_request(user=administrator, project=project, slide_images=images)
    process = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "-c", _MAKE.format(pk=str(export.pk))],
        cwd=ROOT,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "pathsearch_site.settings.testing",
            "DATABASE_URL": database_url(),
            "PATHSEARCH_TEST_DATA_DIR": str(settings.DATA_DIR),
        },
    )
    folder = exports.export_folder(export.pk)
    try:
        # The second slide's file lies beside the archive that holds the first.
        wait_until(
            lambda: (
                any(f.stat().st_size for f in folder.glob("*.partial/export.zip"))
                and any(folder.glob("*.partial/*.dcm"))
            ),
            seconds=90,
            what="the first slide in the archive",
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    export.refresh_from_db()
    assert export.state == "running"
    assert not exports.export_file(export).exists()
    Export.objects.filter(pk=export.pk).update(lease_expires_at=timezone.now() - timedelta(1))
    exports.sweep_exports()
    export_run.export_run(export.pk)
    export.refresh_from_db()
    assert (export.state, export.attempts, export.slide_count) == ("finished", 2, 2)
    assert [f.name for f in folder.rglob("*") if f.is_file()] == ["export.zip"]
    exported = AccessEvent.objects.filter(object_id=str(export.pk), detail__act="exported")
    assert exported.count() == 1  # both slides are of one patient
