"""The table: every route, who may, and what the others get. Row says how to read it."""

from base64 import b64encode
from typing import Any

from tests.permissions.accounts_table import ACCOUNTS
from tests.permissions.boards_table import BOARDS
from tests.permissions.dicom_table import RETRIEVED
from tests.permissions.dicomweb_table import DICOMWEB
from tests.permissions.exports_table import EXPORTS
from tests.permissions.merges_table import MERGES
from tests.permissions.openings_table import OPENINGS
from tests.permissions.public_table import PUBLIC
from tests.permissions.regions_table import REGIONS
from tests.permissions.retention_table import RETENTION
from tests.permissions.row import Of, Row
from tests.permissions.searches_table import SEARCHES
from tests.permissions.world import MISSING


def _id(kind: str) -> Of:
    return lambda world, place: {kind: str(world.id(kind, place))}


def _patient(_world: Any, place: str) -> dict[str, Any]:
    return {"patient": {"mrn": f"MRN-{place}"}}


def _cohort(world: Any, place: str) -> dict[str, Any]:
    return {"cohort_pk": world.id("cohort", place)}


def _department(world: Any, place: str) -> dict[str, Any]:
    return {"code": world.id("department", place)}


def _upload(world: Any, place: str) -> dict[str, Any]:
    return {"upload_pk": world.id("upload", place)}


def _upload_file(world: Any, place: str) -> dict[str, Any]:
    return {"upload_pk": world.id("upload", place), "pk": world.id("upload_file", place)}


def _bytes(_world: Any, _place: str) -> bytes:
    return b"12345"


def _metadata(**values: Any) -> str:
    encoded = {key: b64encode(str(value).encode()).decode() for key, value in values.items()}
    return ",".join(f"{key} {value}" for key, value in encoded.items())


_TUS = {"Tus-Resumable": "1.0.0"}
_REGION = "x=0&y=0&width=64&height=64&size=64"

PAGES = [
    # An auditor, who is nobody else in the table, is tried in tests/cases/audit/test_page.py.
    Row("audit", roles="D", nobody=403),
    Row("work_list", lists="case"),
    Row("work_list", query="text=S26", lists="case", by_name=True, variant="filtered"),
    Row(
        "view_save",
        "POST",
        ok=302,
        nobody=403,
        body=lambda _world, _place: {"name": "Mine", "query": "organ=Lung"},
        form=True,
    ),
    # A view is its owner's alone: tests/cases/pages/test_work_list_views.py.
    Row("view_delete", "POST", ok=404, nobody=404, url=lambda _w, _p: {"pk": MISSING}),
    Row("case", of="case"),
    Row("case_similar", of="case"),
    # What rows were before: of one's own department, and by name.
    Row("case_history", of="case", roles="PTD", partner="denied"),
    Row("cases-history", of="case", roles="PTD", partner="denied"),
    # Who reads the log of a department; the partner's pathologist does not.
    Row("case_seen", of="case", roles="D", partner="denied"),
    Row("slide", of="slide_image"),
    Row("slide_dzi", of="slide_image"),
    Row(
        "slide_tile",
        of="slide_image",
        url=lambda world, place: {
            "pk": world.id("slide_image", place),
            "z_level": 9,
            "column": 0,
            "row": 0,
        },
    ),
    Row("slide_thumbnail", of="slide_image"),
    Row("slide_region", of="slide_image", query=_REGION),
    Row("slide_label", of="slide_image", roles="PTD", partner="denied"),
    Row("cohorts", lists="cohort"),
    Row("cohort_new", roles="PRD", nobody=403),
    Row(
        "cohort_new",
        "POST",
        of="department_pk",
        roles="PRD",
        ok=302,
        hidden=200,
        gate=True,
        nobody=403,
        body=lambda world, place: {"department": world.id("department_pk", place), "name": "New"},
        form=True,
    ),
    Row("cohort", of="cohort"),
    Row(
        "cohort_add",
        "POST",
        of="cohort",
        roles="PRD",
        ok=302,
        partner="denied",
        body=_id("slide_image"),
        form=True,
    ),
    Row(
        "cohort_remove",
        "POST",
        of="cohort",
        roles="PRD",
        ok=302,
        partner="denied",
        body=lambda world, place: {"entry": str(world.id("entry", place)), "reason": "Blurred"},
        form=True,
    ),
    Row(
        "cohort_share",
        "POST",
        of="cohort",
        roles="D",
        ok=302,
        partner="denied",
        body=lambda _world, _place: {},
        form=True,
    ),
    Row("cohort_export", of="cohort", roles="PRD"),
    Row("uploads", lists="upload"),
    Row("upload_new", roles="PTD", nobody=403),
    Row("upload", of="upload"),
    Row("upload_retry", "POST", of="upload_failed", roles="PTD", ok=302),
    Row("upload_cancel", "POST", of="upload", roles="PTD", ok=302),
    Row("unmatched", lists="item"),
    Row("unmatched_item", of="item"),
    Row(
        "unmatched_item",
        "POST",
        of="item",
        roles="PTD",
        ok=302,
        body=lambda _world, _place: {"discard": "1", "discard-reason": "Not ours"},
        form=True,
    ),
    Row("indexing", lists="slide_image"),
    Row("index_retry", "POST", of="index", roles="PTD", ok=302, partner="denied"),
]

API = [
    Row("departments-list", lists="department"),
    Row("departments-detail", of="department", url=_department),
    Row("patients-list", lists="patient"),
    Row("patients-detail", of="patient"),
    Row(
        "patients-detail",
        "PATCH",
        of="patient",
        roles="PTD",
        partner="denied",
        body=lambda _world, _place: {"given_name": "Corrected"},
    ),
    Row("cases-list", lists="case"),
    Row(
        "cases-list",
        "POST",
        of="department",
        roles="PTD",
        ok=201,
        hidden=400,
        body=lambda world, place: {
            "department": world.id("department", place),
            "accession_number": "S26-new",
            **_patient(world, place),
        },
        in_body=True,
    ),
    Row("cases-detail", of="case"),
    Row(
        "cases-by-accession",
        of="accession",
        url=lambda world, place: {"accession_number": world.id("accession", place)},
        query="department={own}",
        gate=True,
        nobody=400,
    ),
    Row(
        "cases-by-accession",
        "PUT",
        of="department",
        roles="PTD",
        hidden=400,
        url=lambda _world, _place: {"accession_number": "S26-new"},
        query="department={id}",
        body=_patient,
        ok=201,
    ),
    Row("slides-list", lists="slide"),
    Row("slides-detail", of="slide"),
    Row("slide-images-list", lists="slide_image"),
    Row("slide-images-detail", of="slide_image"),
    Row("reports-list", lists="report"),
    Row("reports-detail", of="report"),
    Row(
        "reports-list",
        "POST",
        of="case",
        roles="PD",
        ok=201,
        partner="denied",
        body=lambda world, place: {
            "case": str(world.id("case", place)),
            "status": "preliminary" if place == "private" else "amended",
        },
        in_body=True,
    ),
    Row("cohorts-list", lists="cohort"),
    Row(
        "cohorts-list",
        "POST",
        of="department",
        roles="PRD",
        ok=201,
        hidden=400,
        body=lambda world, place: {"department": world.id("department", place), "name": "New"},
        in_body=True,
    ),
    Row("cohorts-detail", of="cohort"),
    Row(
        "cohorts-detail",
        "PATCH",
        of="cohort",
        roles="PRD",
        partner="denied",
        body=lambda _world, _place: {"description": "Changed"},
    ),
    Row(
        "cohorts-share",
        "PUT",
        of="cohort",
        roles="D",
        partner="denied",
        body=lambda _world, _place: {"departments": []},
    ),
    Row("cohort-entries-list", of="cohort", url=_cohort),
    Row(
        "cohort-entries-list",
        "POST",
        of="cohort",
        roles="PRD",
        partner="denied",
        url=_cohort,
        body=lambda world, place: {"slide_images": [str(world.own_slide_image(place))]},
    ),
    Row(
        "cohort-entries-remove",
        "POST",
        of="cohort",
        roles="PRD",
        partner="denied",
        url=_cohort,
        body=lambda world, place: {"entries": [str(world.id("entry", place))], "reason": "Blur"},
    ),
    Row("uploads-list", lists="upload"),
    Row(
        "uploads-list",
        "POST",
        of="department",
        roles="PTD",
        ok=201,
        hidden=400,
        body=lambda world, place: {"department": world.id("department", place)},
        in_body=True,
    ),
    Row("uploads-detail", of="upload"),
    Row("uploads-detail", "DELETE", of="upload", roles="PTD", ok=204),
    Row("uploads-finish", "POST", of="upload_ready", roles="PTD"),
    Row("uploads-retry", "POST", of="upload_failed", roles="PTD"),
    Row("upload-files-list", of="upload", url=_upload),
    Row("upload-files-detail", "PUT", of="upload_file", roles="PTD", url=_upload_file, body=_bytes),
    Row(
        "tus-list",
        "POST",
        of="upload",
        roles="PTD",
        ok=201,
        headers=lambda world, place: {
            **_TUS,
            "Upload-Length": "5",
            "Upload-Metadata": _metadata(upload=world.id("upload", place), filename="a.svs"),
        },
        in_body=True,
    ),
    Row("tus-list", "OPTIONS", ok=204, nobody=204),
    Row("tus-detail", "OPTIONS", ok=204, nobody=204, url=lambda _w, _p: {"pk": MISSING}),
    Row("tus-detail", "HEAD", of="upload_file", headers=lambda _world, _place: _TUS),
    Row(
        "tus-detail",
        "PATCH",
        of="upload_file",
        roles="PTD",
        ok=204,
        headers=lambda _world, _place: {**_TUS, "Upload-Offset": "0"},
        body=_bytes,
    ),
    Row(
        "tus-detail",
        "DELETE",
        of="upload_file",
        roles="PTD",
        ok=204,
        headers=lambda _world, _place: _TUS,
    ),
    Row("searches-list", lists="own search"),
    Row(
        "searches-list",
        "POST",
        of="slide_image",
        ok=201,
        hidden=400,
        body=lambda world, place: {"slide_image": str(world.id("slide_image", place))},
        in_body=True,
    ),
    Row("searches-detail", of="search"),
    # Nobody has marked anything: what is refused is the question, not the asker.
    Row("searches-refine", "POST", of="search", roles="PRD", ok=400),
    Row(
        "searches-explanation",
        of="search",
        url=lambda world, place: {"pk": world.id("search", place), "rank": 1},
    ),
    # 409: the slides of the world have no kept features.
    Row("slide-images-attention", of="slide_image", ok=409),
    Row("index-status-list", lists="index"),
    Row("index-status-detail", of="index"),
    # The world's slides are not indexed: who may is told so.
    Row("index-status-dicom-results", "POST", of="index", roles="PTD", ok=409, partner="denied"),
]

TABLE = [
    *ACCOUNTS,
    *PUBLIC,
    *PAGES,
    *SEARCHES,
    *API,
    *RETRIEVED,
    *DICOMWEB,
    *EXPORTS,
    *BOARDS,
    *OPENINGS,
    *RETENTION,
    *REGIONS,
    *MERGES,
    *RETENTION,
]
