"""Exports and their projects in each place of the world."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from cases import models
from cases.services import export_projects, exports
from tests.factories import make_member

EXPORT_KINDS = frozenset({"export", "export_failed", "export_project"})


def put_exports(world: Any, place: str, department: Any, image: models.SlideImage) -> None:
    """Add a project, a finished export with its file, and a failed one."""
    opener = make_member(department, "department_administrator")
    # Without the service: its access event would show the id to who runs the site.
    seed = b"0" * 32
    project = models.ExportProject.objects.create(
        department=department,
        name=f"Project-{place}",
        seed=seed,
        key_check=export_projects._derived(seed).check(),
    )
    finished = models.Export.objects.create(
        department=department,
        project=project,
        requested_by=opener,
        state="finished",
        slide_count=1,
        size_bytes=5,
        sha256="0" * 64,
        expires_at=timezone.now() + timedelta(days=1),
    )
    failed = models.Export.objects.create(
        department=department,
        project=project,
        requested_by=opener,
        state="failed",
        reason_code="broken",
        reason=f"Export-reason-{place}",
    )
    for export, state in ((finished, "exported"), (failed, "left_out")):
        models.ExportItem.objects.create(export=export, slide_image=image, state=state)
    file = exports.export_file(finished)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"12345")
    hidden_as = place if place == "foreign" else f"{place} intake"
    for kind, row, texts in (
        ("export_project", project, [project.name]),
        ("export", finished, []),
        ("export_failed", failed, [failed.reason]),
    ):
        world.put(kind, place, row, *texts, hidden_as=hidden_as)
