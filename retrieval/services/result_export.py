"""An answer as a table for a spreadsheet."""

import csv
from io import StringIO
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction

from cases.permissions import departments_with
from cases.services.audit import Action, access_events_listed
from cases.services.cells import inert
from retrieval.models import EmbeddingModel

AID = "An aid and no diagnosis."

COLUMNS = (
    "rank",
    "department",
    "accession_number",
    "accession_issuer",
    "slide_label",
    "slide_image_id",
    "organ",
    "stain",
    "received_on",
    "tissue_similarity",
    "report_similarity",
    "words_found",
    "same_patient",
    "report_status",
    "diagnosis_code",
    "diagnosis_line",
    "my_verdict",
)


@transaction.atomic
def results_export_csv(*, user: Any, results: Any, models: list[EmbeddingModel]) -> str:
    """Return the answer as its reader sees it, as CSV; the export of each patient is recorded.

    results: what `retrieval.selectors.search_results` found for this user. The first lines say
    what was asked when, by which models, and that it is no diagnosis.
    """
    if not departments_with(user, "export_cohort"):
        raise PermissionDenied("Your role does not allow exporting.")
    query = results.query
    buffer = StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["# search", query.pk, query.created_at.isoformat(timespec="seconds")])
    if query.text:
        writer.writerow(["# words", inert(query.text)])
    for model in models:
        writer.writerow(["# model", model.name, model.version])
    writer.writerow(["#", AID])
    writer.writerow(COLUMNS)
    for hit in results.hits:
        writer.writerow([inert(value) for value in _row(hit)])
    access_events_listed(
        user=user,
        action=Action.EXPORT,
        object_type=query._meta.model_name,
        object_id=str(query.pk),
        subjects={(hit.patient.pk, hit.patient.department_id) for hit in results.hits},
        detail={"rows": len(results.hits)},
    )
    return buffer.getvalue()


def _row(hit: Any) -> tuple[Any, ...]:
    image, case, report = hit.slide_image, hit.case, hit.diagnosis
    return (
        hit.rank,
        image.department.code,
        case.accession_number,
        case.accession_issuer,
        image.slide.label,
        image.pk,
        image.slide.specimen.organ if image.slide.specimen else "",
        image.slide.stain,
        case.received_on.isoformat() if case.received_on else "",
        _number(hit.hit.image_similarity),
        _number(hit.hit.text_similarity),
        "yes" if hit.hit.full_text_match else "",
        "yes" if hit.same_patient else "",
        hit.report.status if hit.report else "",
        report.diagnosis_code if report else "",
        report.diagnosis_line if report else "",
        hit.verdict,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
