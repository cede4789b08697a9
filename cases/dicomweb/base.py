"""What every DICOMweb route shares: who asks, what they may, what they accept, the audit.

Hidden objects are 404, the same as missing ones: look rows up with `readable_by(request.user)`
(in searches `visible_to`) and raise `Http404`. Errors are problem+json with a code and a sentence.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from django.http import Http404, HttpRequest
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.api.authentication import HasTokenScope
from cases.dicomweb.errors import NotAcceptable
from cases.dicomweb.wire.accept import MediaType, choose, parse_accept
from cases.models import ApiToken, SlideImage
from cases.services.audit import access_events_listed
from cases.services.looks import slide_view_record

DICOM_JSON = "application/dicom+json"
JSON = "application/json"


class LeaveUnread(BaseParser):
    """Parses nothing: a look for a CSRF token in a form must not touch the slides of a body."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> dict:
        """Return no fields."""
        return {}


class DicomWebView(APIView):
    """Base of the views. Tokens need `dicomweb:read` to read, `dicomweb:write` to store.

    A session works, too; its writes need the CSRF token (header X-CSRFToken).
    """

    read_scope = ApiToken.Scope.DICOMWEB_READ
    write_scope = ApiToken.Scope.DICOMWEB_WRITE
    permission_classes = [IsAuthenticated, HasTokenScope]
    parser_classes = [LeaveUnread]
    # A viewer asks for hundreds of frames a second: the API's rate would stop it.
    throttle_classes: list = []
    # PS3.18 describes these routes, not the OpenAPI schema.
    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Ask who it is and what they may; nothing has an address that the database cannot hold."""
        super().initial(request, *args, **kwargs)
        if any("\x00" in value for value in kwargs.values()):
            raise Http404

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """Leave Accept to the views (`accepted`); errors are JSON whatever was accepted."""
        return JSONRenderer(), "application/json"


class UnknownDicomWebRoute(DicomWebView):
    """Any other address under /dicomweb/: the same answer as for a missing object."""

    authentication_classes: list = []
    permission_classes: list = []

    def _refuse(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        raise Http404

    get = post = put = patch = delete = options = _refuse


def accepted(request: HttpRequest | Request) -> list[MediaType]:
    """Return what the client accepts, the most wanted first (PS3.18 8.7.4, 8.7.5)."""
    return parse_accept(request.GET.get("accept") or request.headers.get("Accept", ""))


def negotiate(request: HttpRequest | Request, offers: Sequence[str]) -> tuple[str, MediaType]:
    """Return the offer to send and the accepted range that chose it. Raises NotAcceptable."""
    chosen = choose(accepted(request), offers)
    if chosen is None:
        raise NotAcceptable(f"None of the accepted media types can be sent. Sent are: {offers}.")
    return chosen


def slide_sent_record(*, user: Any, slide_image: SlideImage) -> None:
    """Audit that a slide's data went out: frames of one look are one event (looks.ONE_LOOK).

    The event's channel is "dicom": the middleware knows it from the address.
    """
    slide_view_record(user=user, slide_image=slide_image)


def listing_record(*, user: Any, slide_images: Iterable[SlideImage], detail: dict) -> None:
    """Audit a look at several slides: one event per patient among them."""
    access_events_listed(
        user=user,
        object_type="slideimage",
        subjects=((i.slide.case.patient_id, i.department_id) for i in slide_images),
        detail=detail,
    )


def base_url(request: HttpRequest | Request) -> str:
    """Return the absolute address of the DICOMweb root, without the last slash."""
    return request.build_absolute_uri("/dicomweb")
