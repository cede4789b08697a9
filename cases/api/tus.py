"""Resumable sending by tus 1.0 (https://tus.io/protocols/resumable-upload): core, creation,
termination. A file belongs to an upload that `POST /api/v1/uploads/` has announced.
"""

import base64
import binascii
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.errors import DomainError
from cases.models import ApiToken, SlideUpload, UploadFile
from cases.services import receive, uploads

VERSION = "1.0.0"
CONTENT_TYPE = "application/offset+octet-stream"


class BadTusRequest(DomainError):
    """A header of the protocol is missing or cannot be read."""

    code = "bad_tus_request"


class UnsupportedTusVersion(DomainError):
    """The client speaks another version."""

    http_status = HTTPStatus.PRECONDITION_FAILED
    code = "unsupported_tus_version"
    message = _("This server speaks tus 1.0.0; send Tus-Resumable: 1.0.0.")


class WrongContentType(DomainError):
    """A piece must be sent as what it is."""

    http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "wrong_content_type"
    message = f"A piece must be sent as {CONTENT_TYPE}."


class TusView(APIView):
    """What every tus route shares: scope, version check, headers."""

    read_scope = write_scope = ApiToken.Scope.UPLOADS_WRITE
    throttle_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method != "OPTIONS" and request.headers.get("Tus-Resumable") != VERSION:
            raise UnsupportedTusVersion

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Tus-Resumable"] = VERSION
        response["Tus-Version"] = VERSION
        response["Cache-Control"] = "no-store"
        return response

    @extend_schema(exclude=True)
    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Say what the server can do."""
        return Response(
            status=HTTPStatus.NO_CONTENT,
            headers={
                "Tus-Extension": "creation,termination",
                "Tus-Max-Size": str(settings.UPLOAD_MAX_BYTES),
            },
        )


class TusCreateView(TusView):
    """Announces one more file of an upload."""

    @extend_schema(
        request=None,
        responses={201: None},
        parameters=[
            OpenApiParameter("Tus-Resumable", str, OpenApiParameter.HEADER, required=True),
            OpenApiParameter("Upload-Length", int, OpenApiParameter.HEADER, required=True),
            OpenApiParameter(
                "Upload-Metadata",
                str,
                OpenApiParameter.HEADER,
                required=True,
                description="`upload` (id) and `filename`, each base64",
            ),
        ],
    )
    def post(self, request: Request) -> Response:
        """Announce a file; `Location` says where its bytes go."""
        metadata = _metadata(request.headers.get("Upload-Metadata", ""))
        try:
            upload_id = UUID(metadata.get("upload", ""))
        except ValueError as error:
            raise BadTusRequest("Upload-Metadata must name the `upload` (its id).") from error
        upload = SlideUpload.objects.get_visible_or_404(request.user, pk=upload_id)
        upload_file = uploads.upload_add_file(
            upload=upload,
            user=request.user,
            name=metadata.get("filename", ""),
            size_bytes=_number(request, "Upload-Length"),
        )
        location = reverse("tus-detail", kwargs={"pk": upload_file.pk})
        return Response(status=HTTPStatus.CREATED, headers={"Location": location})


class TusFileView(TusView):
    """Takes the bytes of one file."""

    def _file(self, request: Request, pk: UUID) -> UploadFile:
        rows = UploadFile.objects.select_related("upload")
        return rows.get_visible_or_404(request.user, pk=pk)

    @extend_schema(exclude=True)
    def head(self, request: Request, pk: UUID) -> Response:
        """Say how many bytes are here."""
        upload_file = self._file(request, pk)
        return Response(
            headers={
                "Upload-Offset": str(receive.file_current_offset(upload_file)),
                "Upload-Length": str(upload_file.size_bytes),
            }
        )

    @extend_schema(
        request={CONTENT_TYPE: OpenApiTypes.BINARY},
        responses={204: None},
        parameters=[
            OpenApiParameter("Tus-Resumable", str, OpenApiParameter.HEADER, required=True),
            OpenApiParameter("Upload-Offset", int, OpenApiParameter.HEADER, required=True),
        ],
    )
    def patch(self, request: Request, pk: UUID) -> Response:
        """Take one piece, which must begin where the server stands."""
        if request.content_type != CONTENT_TYPE:
            raise WrongContentType
        end = receive.file_append(
            upload_file=self._file(request, pk),
            user=request.user,
            offset=_number(request, "Upload-Offset"),
            read=request.read,
        )
        return Response(status=HTTPStatus.NO_CONTENT, headers={"Upload-Offset": str(end)})

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Take the file out of its upload."""
        uploads.upload_remove_file(upload_file=self._file(request, pk), user=request.user)
        return Response(status=HTTPStatus.NO_CONTENT)


def _number(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise BadTusRequest(f"The header {header} must be a whole number.")
    return int(value)


def _metadata(header: str) -> dict[str, str]:
    """Return the pairs of `key base64,key base64`."""
    pairs = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _space, value = pair.partition(" ")
        try:
            pairs[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise BadTusRequest("Upload-Metadata must be UTF-8 in base64.") from error
    return pairs
