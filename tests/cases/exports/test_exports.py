"""Who may export what and when, expiry, sweeps, retries; and that a leak stops all of it."""

import asyncio
import hashlib
import os
import shutil
from datetime import timedelta

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.utils import timezone

from cases.errors import Conflict, InsufficientStorage
from cases.file_response import CHUNK_BYTES, DiskResponse
from cases.models import Cohort, CohortEntry, Department, Export, Membership
from cases.permissions import Role
from cases.services import export_run, exports, sweep, work
from cases.services.export_projects import (
    ProjectClosed,
    ProjectKeyChanged,
    ProjectNameTaken,
    export_project_close,
    export_project_open,
    project_key,
)
from cases.wsi.deidentify import write
from tests.factories import DepartmentFactory, make_member, make_slide_image
from tests.synthetic_slide import write_dicom_slide

pytestmark = pytest.mark.django_db


@pytest.fixture
def image(take_in, tmp_path):
    return take_in(write_dicom_slide(tmp_path / "slide", levels=2))


def queue(researcher, project, *images) -> Export:
    return exports.export_request(user=researcher, project=project, slide_images=images)


def run(export: Export) -> Export:
    export_run.export_run(export.pk)
    export.refresh_from_db()
    return export


def files_of(export: Export) -> list:
    folder = exports.export_folder(export.pk)
    return [file for file in folder.rglob("*") if file.is_file()] if folder.exists() else []


def test_a_leak_fails_the_export_loudly_and_leaves_no_file(
    image, researcher, project, monkeypatch, caplog
):
    """A rebuild that forgets to hide the patient: the re-scan, which trusts nothing, stops it."""
    kept = write.rebuild

    def forgetful(header, names, **options):
        made = kept(header, names, **options)
        made.PatientName = header.PatientName
        return made

    monkeypatch.setattr(write, "rebuild", forgetful)
    export = run(queue(researcher, project, image))
    assert (export.state, export.reason_code) == ("failed", "identifier_left")
    assert "PatientName" in export.reason
    assert "Doe" not in export.reason
    assert "Doe" not in caplog.text
    assert files_of(export) == []
    assert export.sha256 == ""
    with pytest.raises(Conflict):
        exports.export_fetch(user=researcher, export=export)


def test_rights_that_end_while_it_runs_end_it(image, researcher, project):
    export = queue(researcher, project, image)
    Membership.objects.filter(user=researcher).update(role=Role.TECHNICIAN)
    run(export)
    assert (export.state, export.reason_code) == ("failed", "rights_gone")
    assert files_of(export) == []


def test_a_slide_that_moved_out_of_sight_is_left_out(image, researcher, project, take_in, tmp_path):
    other = take_in(
        write_dicom_slide(tmp_path / "other", seed=5, levels=1, accession_number="S26-5")
    )
    export = queue(researcher, project, image, other)
    away = DepartmentFactory(code="away")
    type(other).objects.filter(pk=other.pk).update(department=away)
    run(export)
    assert export.state == "finished"
    assert export.slide_count == 1
    states = {item.slide_image_id: item.reason_code for item in export.items.all()}
    assert states == {image.pk: "", other.pk: "not_visible"}


def test_rights_are_asked_again_at_the_download(image, researcher, project, make_export):
    export = make_export(image)
    assert exports.export_fetch(user=researcher, export=export).is_file()
    type(image).objects.filter(pk=image.pk).update(department=DepartmentFactory(code="away"))
    with pytest.raises(PermissionDenied):
        exports.export_fetch(user=researcher, export=export)


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.RESEARCHER, True),
        (Role.DEPARTMENT_ADMINISTRATOR, True),
        (Role.PATHOLOGIST, False),
        (Role.TECHNICIAN, False),
    ],
)
def test_roles(image, project, department, role, may):
    user = make_member(department, role)
    if may:
        assert queue(user, project, image).state == "queued"
    else:
        with pytest.raises(PermissionDenied):
            queue(user, project, image)


def test_a_project_takes_only_slides_of_its_department(researcher, project):
    foreign = make_slide_image(DepartmentFactory(code="away"))
    with pytest.raises(exports.SlideOfOtherDepartment):
        queue(researcher, project, foreign)
    with pytest.raises(exports.NothingToExport):
        queue(researcher, project)


def test_whom_a_cohort_is_shared_with_looks_and_does_not_take(image, department, project):
    partner = DepartmentFactory(code="partner")
    guest = make_member(partner, Role.RESEARCHER)
    cohort = Cohort.objects.create(department=department, name="Shared")
    CohortEntry.objects.create(cohort=cohort, slide_image=image)
    cohort.shared_with.add(partner)
    client = Client()
    client.force_login(guest)
    assert client.get(f"/slides/{image.pk}/").status_code == 200
    assert client.get(f"/slides/{image.pk}/export/").status_code == 403
    assert client.get(f"/cohorts/{cohort.pk}/export/").status_code == 403


def test_a_cohort_goes_out_as_a_whole(image, researcher, project, department, take_in, tmp_path):
    other = take_in(
        write_dicom_slide(tmp_path / "other", seed=5, levels=1, accession_number="S26-5")
    )
    cohort = Cohort.objects.create(department=department, name="Both")
    for one in (image, other):
        CohortEntry.objects.create(cohort=cohort, slide_image=one)
    client = Client()
    client.force_login(researcher)
    page = client.post(f"/cohorts/{cohort.pk}/export/", {"project": project.pk})
    export = Export.objects.get()
    assert page.status_code == 302
    run(export)
    assert (export.cohort, export.slide_count, export.patient_count) == (cohort, 2, 1)
    answer = client.get(f"/exports/{export.pk}/download/")
    body = b"".join(answer.streaming_content)
    assert hashlib.sha256(body).hexdigest() == export.sha256
    assert answer["Content-Type"] == "application/zip"
    assert answer["Cache-Control"] == "no-store"


def test_the_file_goes_when_its_time_is_over(image, researcher, make_export, settings):
    export = make_export(image)
    assert export.expires_at > timezone.now() + timedelta(days=settings.EXPORT_DAYS - 1)
    Export.objects.filter(pk=export.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    export.refresh_from_db()
    with pytest.raises(exports.NotReady):  # over is over, swept or not
        exports.export_fetch(user=researcher, export=export)
    exports.sweep_exports()
    export.refresh_from_db()
    assert export.state == "expired"
    assert files_of(export) == []


def test_an_expired_export_is_made_again_with_the_same_pseudonyms(image, researcher, make_export):
    export = make_export(image)
    before = export.sha256
    exports.export_remove(user=researcher, export=export)
    exports.export_retry(user=researcher, export=export)
    run(export)
    assert (export.state, export.sha256) == ("finished", before)


def test_the_hourly_sweep_removes_what_no_export_knows(image, make_export, data_dir):
    export = make_export(image)
    lost = data_dir / "exports" / "00000000-0000-4000-8000-000000000001"
    lost.mkdir()
    for path in (lost, exports.export_folder(export.pk)):
        os.utime(path, (0, 0))
    sweep.sweep_store()
    assert not lost.exists()
    assert exports.export_file(export).is_file()


def test_a_killed_worker_is_followed_by_one_whole_export(image, researcher, project, settings):
    """What a kill -9 leaves: a running row, and half a file in the attempt's own folder."""
    export = queue(researcher, project, image)
    lease = work.claim(Export, export.pk)
    left = exports.export_folder(export.pk) / f"{lease.token}.partial"
    left.mkdir(parents=True)
    (left / "export.zip").write_bytes(b"half")
    Export.objects.filter(pk=export.pk).update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    exports.sweep_exports()
    export.refresh_from_db()
    assert (export.state, export.reason_code) == ("queued", "worker_lost")
    run(export)
    assert (export.state, export.attempts) == ("finished", 2)
    assert [file.name for file in files_of(export)] == ["export.zip"]
    export_run.export_run(export.pk)  # a doubled message
    export.refresh_from_db()
    assert export.attempts == 2


def test_a_worker_that_lost_its_lease_writes_nothing(image, researcher, project, monkeypatch):
    export = queue(researcher, project, image)
    kept = export_run._Run._manifest

    def taken_over(self, key, target):
        Export.objects.filter(pk=export.pk).update(lease_token=None, state="queued")
        kept(self, key, target)

    monkeypatch.setattr(export_run._Run, "_manifest", taken_over)
    run(export)
    assert export.state == "queued"
    assert not exports.export_file(export).exists()


def test_a_full_disk_is_named_at_the_request(image, researcher, project, settings, monkeypatch):
    monkeypatch.setattr("cases.services.store.free_bytes", lambda: 100)
    settings.DISK_RESERVE_BYTES = 50
    with pytest.raises(InsufficientStorage):
        queue(researcher, project, image)


def test_a_slide_whose_files_are_gone_is_left_out_and_an_empty_export_fails(
    image, researcher, project, data_dir
):
    shutil.rmtree(data_dir / image.path)
    export = run(queue(researcher, project, image))
    assert (export.state, export.reason_code) == ("failed", "nothing_to_export")


def test_a_slide_with_burned_in_names_is_left_out(take_in, researcher, project, tmp_path):
    image = take_in(
        write_dicom_slide(
            tmp_path / "slide",
            levels=1,
            change=lambda number, dataset: setattr(dataset, "BurnedInAnnotation", "YES"),
        )
    )
    other = take_in(
        write_dicom_slide(tmp_path / "other", seed=5, levels=1, accession_number="S26-5")
    )
    export = run(queue(researcher, project, image, other))
    assert export.state == "finished"
    item = export.items.get(slide_image=image)
    assert (item.state, item.reason_code) == ("left_out", "burned_in")


def test_projects(department, administrator, researcher, image, settings):
    project = export_project_open(user=administrator, department=department, name=" Study  A ")
    assert project.name == "Study A"
    with pytest.raises(ProjectNameTaken):
        export_project_open(user=administrator, department=department, name="Study A")
    with pytest.raises(PermissionDenied):
        export_project_open(user=researcher, department=department, name="Study B")
    other = export_project_open(user=administrator, department=department, name="Study B")
    assert project_key(project).uid("1") != project_key(other).uid("1")
    settings.EXPORT_SECRET = "another"
    with pytest.raises(ProjectKeyChanged):
        queue(researcher, project, image)


def test_a_closed_project_exports_nothing_more(administrator, researcher, project, image):
    export_project_close(user=administrator, project=project)
    with pytest.raises(ProjectClosed):
        queue(researcher, project, image)


def test_neither_database_nor_secret_alone_give_the_key(project, settings):
    key = project_key(project)
    seed = bytes(project.seed)
    assert seed not in str(key.__dict__).encode()
    assert project.key_check == key.check()
    settings.EXPORT_SECRET = "another"
    from cases.services.export_projects import _derived

    assert _derived(seed).check() != project.key_check


async def _sent(response) -> list[bytes]:
    return [piece async for piece in response]


def test_an_archive_is_streamed_from_disk_under_asgi(tmp_path):
    """Not as Django would: all of it in memory before the first byte."""
    file = tmp_path / "export.zip"
    file.write_bytes(os.urandom(3 * CHUNK_BYTES + 5))
    response = DiskResponse(file, filename="export.zip")
    pieces = asyncio.run(_sent(response))
    response.close()
    assert [len(piece) for piece in pieces] == [CHUNK_BYTES] * 3 + [5]
    assert b"".join(pieces) == file.read_bytes()
    assert response["Content-Length"] == str(file.stat().st_size)


def test_the_pages_follow_an_export(image, researcher, make_export, administrator):
    export = make_export(image)
    client = Client()
    client.force_login(researcher)
    assert b"Download" in client.get(f"/exports/{export.pk}/").content
    listed = client.get("/exports/").content
    assert str(export.pk).encode() in listed
    assert export.project.name.encode() in listed
    assert bytes(export.project.seed).hex().encode() not in listed
    assert b"Open a project" not in listed
    client.force_login(administrator)
    assert b"Open a project" in client.get("/exports/").content
    answer = client.post(
        "/exports/projects/new/",
        {"name": "From the page", "department": Department.objects.get().pk},
    )
    assert answer.status_code == 302
    assert b"From the page" in client.get("/exports/").content
