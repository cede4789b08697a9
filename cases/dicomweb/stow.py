"""STOW-RS (PS3.18 10.5): instances come in one multipart body and go to the intake.

The answer is sent when all that it says is durable: bytes flushed, rows committed. Slides can be
searched and retrieved when the intake has examined them, seconds later.
"""

import json
from http import HTTPStatus

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpResponse
from rest_framework.request import Request

from cases import permissions
from cases.dicomweb.base import DICOM_JSON, JSON, DicomWebView, base_url, negotiate
from cases.dicomweb.errors import (
    BadDicomRequest,
    DepartmentNeeded,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from cases.dicomweb.wire.accept import MediaType, parse_media_type
from cases.dicomweb.wire.multipart import MultipartError, MultipartReader, Part
from cases.dicomweb.wire.native_xml import to_xml
from cases.dicomweb.wire.results import Outcome, response_dataset, status_of
from cases.intake_selectors import departments_to_upload
from cases.models import Department, SlideUpload
from cases.services import uploads
from cases.services.reception import Received, Reception, instances_store

DICOM = "application/dicom"
DICOM_XML = "application/dicom+xml"


class StoreMixin(DicomWebView):
    """Gives a view its POST: one for any study, one for the study of the address."""

    def post(self, request: Request, study_uid: str = "") -> HttpResponse:
        answer_type, _range = negotiate(request, (DICOM_JSON, JSON, DICOM_XML))
        department = _department(request)
        boundary = _boundary(request)
        if not connection.in_atomic_block:
            connection.close()  # the body may take long, and the pool is small
        try:
            with Reception() as reception:
                for part in MultipartReader(request.read, boundary):
                    _require_dicom(part)
                    if reception.count >= uploads.MAX_FILES:
                        raise PayloadTooLarge(f"One request holds at most {uploads.MAX_FILES}.")
                    reception.receive(part.pieces)
                if not reception.count:
                    raise BadDicomRequest("The body holds no instance.", code="no_instances")
                received = instances_store(
                    user=request.user,
                    department=department,
                    reception=reception,
                    received=reception.received(),
                    source=SlideUpload.Source.DICOMWEB,
                    study_instance_uid=study_uid,
                )
        except MultipartError as error:
            raise BadDicomRequest(error.message, code=error.code) from error
        outcomes = [_outcome(file) for file in received]
        return _answer(outcomes, base_url(request), answer_type)


def _department(request: Request) -> Department:
    """Return the department that is to have the slides: the one named, or the only one."""
    code = request.GET.get("department", "")
    if code:
        # What is no text of the database is no code.
        found = Department.objects.visible_to(request.user).filter(code=code.replace("\x00", "?"))
        department = found.first()
        if department is None:
            raise BadDicomRequest("There is no such department.", code="unknown_department")
        permissions.require(request.user, "upload", department.pk)
        return department
    possible = list(departments_to_upload(request.user)[:2])
    if not possible:
        raise PermissionDenied("Your role in this department does not allow this.")
    if len(possible) > 1:
        raise DepartmentNeeded
    return possible[0]


def _boundary(request: Request) -> str:
    """Return the boundary of a body that may be taken; refuse every other."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType(
            "Bodies with a Content-Encoding are not taken: slides are compressed already.",
            code="content_encoding_refused",
        )
    content_type = _media_type(request.headers.get("Content-Type", ""))
    if content_type.name != "multipart/related" or content_type.root not in (DICOM, "*/*"):
        raise UnsupportedMediaType
    if "boundary" not in content_type.parameters:
        raise BadDicomRequest("The Content-Type names no boundary.", code="wrong_boundary")
    return content_type.parameters["boundary"]


def _require_dicom(part: Part) -> None:
    if part.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType(
            "Parts with a Content-Encoding are not taken.", code="content_encoding_refused"
        )
    # A part that names no type is what the request's `type` says.
    if _media_type(part.headers.get("content-type", DICOM)).name != DICOM:
        raise UnsupportedMediaType("A part is not application/dicom. Nothing was stored.")


def _media_type(text: str) -> MediaType:
    try:
        return parse_media_type(text)
    except ValueError as error:
        raise UnsupportedMediaType from error


def _outcome(file: Received) -> Outcome:
    facts = file.facts
    return Outcome(
        sop_class_uid=facts.sop_class_uid,
        sop_instance_uid=facts.sop_instance_uid,
        study_instance_uid=facts.study_instance_uid,
        series_instance_uid=facts.series_instance_uid,
        code=facts.code,
        message=facts.message,
    )


def _answer(outcomes: list[Outcome], root: str, answer_type: str) -> HttpResponse:
    status: HTTPStatus = status_of(outcomes)
    dataset = response_dataset(outcomes, root)
    xml = answer_type == DICOM_XML
    body = to_xml(dataset) if xml else json.dumps(dataset).encode()
    return HttpResponse(body, status=status, content_type=answer_type)
