"""The permission table's rows of de-identified exports."""

from typing import Any

from tests.permissions.row import Row


def _project(world: Any, place: str) -> dict[str, Any]:
    return {"project": str(world.id("export_project", place))}


def _new(world: Any, place: str) -> dict[str, Any]:
    return {**_project(world, place), "slide_images": [str(world.id("slide_image", place))]}


EXPORTS = [
    Row("exports", lists="export"),
    Row("export", of="export"),
    Row("export", of="export_failed", variant="failed"),
    Row("export_download", of="export", roles="RD"),
    Row("export_retry", "POST", of="export_failed", roles="RD", ok=302),
    Row("export_remove", "POST", of="export", roles="RD", ok=302),
    Row("slide_export", of="slide_image", roles="RD", partner="denied"),
    Row(
        "slide_export",
        "POST",
        of="slide_image",
        roles="RD",
        ok=302,
        partner="denied",
        body=lambda world, place: _project(
            world, "private" if place in ("beside", "removed") else place
        ),
        form=True,
    ),
    Row("cohort_export_dicom", of="cohort", roles="RD", partner="denied"),
    Row(
        "cohort_export_dicom",
        "POST",
        of="cohort",
        roles="RD",
        ok=302,
        partner="denied",
        body=_project,
        form=True,
    ),
    Row(
        "export_project_new",
        "POST",
        roles="D",
        ok=302,
        nobody=403,
        body=lambda _world, _place: {"name": "New"},
        form=True,
    ),
    Row("export_project_close", "POST", of="export_project", roles="D", ok=302),
    Row("exports-list", lists="export"),
    Row(
        "exports-list",
        "POST",
        of="export_project",
        roles="RD",
        ok=201,
        hidden=400,
        body=_new,
        in_body=True,
    ),
    Row("exports-detail", of="export"),
    Row("exports-detail", "DELETE", of="export", roles="RD", ok=204),
    Row("exports-items", of="export"),
    Row("exports-retry", "POST", of="export_failed", roles="RD"),
    Row("exports-download", of="export", roles="RD"),
    Row("export-projects-list", lists="export_project"),
    Row(
        "export-projects-list",
        "POST",
        of="department",
        roles="D",
        ok=201,
        hidden=400,
        body=lambda world, place: {"department": world.id("department", place), "name": "New"},
        in_body=True,
    ),
    Row("export-projects-detail", of="export_project"),
    Row("export-projects-close", "POST", of="export_project", roles="D"),
]
