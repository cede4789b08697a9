"""WADO-RS: studies, series, instances, their metadata, frames and bulk data (PS3.18 10.4).

Rights are asked and the look recorded before anything is answered, 304 and 206 too.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from cases.dicomweb import objects, sending
from cases.dicomweb.base import (
    DICOM_JSON,
    JSON,
    DicomWebView,
    accepted,
    base_url,
    negotiate,
    slide_sent_record,
)
from cases.dicomweb.errors import BadDicomRequest, NotAcceptable
from cases.dicomweb.served import DicomObject
from cases.dicomweb.veiled import VeiledObject
from cases.dicomweb.wire.frame_types import (
    DICOM,
    OCTETS,
    FrameAnswer,
    choose_frames,
    choose_instances,
    frame_numbers,
)
from cases.openings import way_in_to
from cases.services.audit import Action, access_event_record
from cases.services.instances import Kept
from cases.services.slide_readers import SlideUnreadable
from cases.wsi.errors import WsiError
from cases.wsi.frame_pixels import native_bytes
from cases.wsi.metadata import PIXEL_TAGS, bulk_value, list_gzip, list_text

# Bodies that were sent lately, by what is in them; no reader's rights are part of it.
kept_metadata = Kept(256)
KEPT_BODY_BYTES = 2**20
METADATA_OFFERS = (DICOM_JSON, JSON)
_OCTETS_OFFERS = (f'multipart/related; type="{OCTETS}"', OCTETS)


class RetrieveView(DicomWebView):
    """Base: finds what is asked for and records the look."""

    shows_pixels = True
    is_opened = False
    """Whether something of it is open to this user alone, for a while."""

    def found(
        self, request: Request, study_uid: str, series_uid: str = "", sop_uid: str = ""
    ) -> list:
        """Return the objects (see objects.find), after recording that they go out."""
        found = objects.find(request.user, study_uid, series_uid, sop_uid)
        self.record(request, found)
        return found

    def record(self, request: Request, found: Sequence[DicomObject]) -> None:
        """Record one look per slide, and one for each that shows the printed label."""
        seen = {one.slide_image.pk: one.slide_image for one in found}
        for slide_image in seen.values():
            slide_sent_record(user=request.user, slide_image=slide_image)
            self.is_opened |= way_in_to(request.user, slide_image) is not None
        for one in found:
            if one.is_private and self.shows_pixels:
                access_event_record(
                    user=request.user,
                    action=Action.VIEW,
                    department_id=one.slide_image.department_id,
                    patient_id=one.slide_image.slide.case.patient_id,
                    target=one.slide_image,
                    detail={"part": one.flavor},
                )

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Leave nothing in the browser of what is open for a while only."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        if self.is_opened:
            answer.headers["Cache-Control"] = "no-store"
        return answer


class RetrieveObjects(RetrieveView):
    """Whole DICOM files of a study, a series or one instance."""

    def get(self, request: Request, study_uid: str, series_uid: str = "", sop_uid: str = "") -> Any:
        """Send them as they came, one after the other."""
        asked = (study_uid, series_uid, sop_uid)
        if any(isinstance(one, VeiledObject) for one in objects.find(request.user, *asked)):
            raise PermissionDenied("Whole files name the patient. Ask for a de-identified export.")
        found = self.found(request, *asked)
        syntaxes = frozenset(one.transfer_syntax_uid for one in found)
        form = choose_instances(accepted(request), syntaxes, len(found) if sop_uid else 2)
        if form is None:
            raise NotAcceptable(
                "Instances are sent as application/dicom, in the transfer syntax they came in."
            )
        headers = sending.cache_headers(
            _etag(found, form),
            # A virtual file, which has no size, says what the records say at the moment.
            is_immutable=bool(sop_uid) and found[0].size_bytes is not None,
            shows_label=any(one.is_private for one in found),
        )
        if (unchanged := sending.not_modified(request, headers)) is not None:
            return unchanged
        kinds = [f"{DICOM}; transfer-syntax={one.transfer_syntax_uid}" for one in found]
        if form == DICOM:
            return sending.ranged_file(request, found[0], kinds[0], headers)
        parts = [
            (kind, one.size_bytes, one.pieces()) for kind, one in zip(kinds, found, strict=True)
        ]
        return sending.multipart(request, DICOM, parts, headers)


class RetrieveMetadata(RetrieveView):
    """Headers of a study, a series or one instance in the DICOM JSON model."""

    shows_pixels = False

    def get(
        self, request: Request, study_uid: str, series_uid: str = "", sop_uid: str = ""
    ) -> HttpResponse:
        """Send what was made at intake, compressed where the client takes it."""
        media_type, _range = negotiate(request, METADATA_OFFERS)
        found = self.found(request, study_uid, series_uid, sop_uid)
        base = base_url(request)
        is_zipped = takes_gzip(request.headers.get("Accept-Encoding", ""))
        headers = sending.cache_headers(
            _etag(found, media_type, base, is_zipped), is_immutable=False
        )
        headers["Vary"] += ", Accept-Encoding"
        if (unchanged := sending.not_modified(request, headers)) is not None:
            return unchanged
        objects.give_indexes(found)
        packed = [one.packed_metadata() for one in found]
        body = list_gzip(packed, base) if is_zipped else list_text(packed, base)
        headers["Content-Type"] = media_type
        if is_zipped:
            headers["Content-Encoding"] = "gzip"
        versions = tuple((one.sop_uid, one.version) for one in found)
        if len(body) <= KEPT_BODY_BYTES:
            kept_metadata.put((versions, media_type, base, is_zipped), (headers, body))
        return HttpResponse(body, headers=headers)


class RetrieveFrames(RetrieveView):
    """Frames of one instance, as kept or decoded."""

    def get(
        self, request: Request, study_uid: str, series_uid: str, sop_uid: str, frames: str
    ) -> Any:
        """Send them by reading their bytes."""
        numbers = asked_frames(frames)
        (one,) = self.found(request, study_uid, series_uid, sop_uid)
        if any(not 1 <= number <= one.frame_count for number in numbers):
            raise Http404
        return send_frames(request, one, numbers)


class RetrieveBulkData(RetrieveView):
    """One value that the metadata names by address, such as an ICC profile."""

    def get(
        self, request: Request, study_uid: str, series_uid: str, sop_uid: str, path: str
    ) -> Any:
        """Send its bytes; pixel data goes frame by frame."""
        (one,) = self.found(request, study_uid, series_uid, sop_uid)
        if path.upper() in {f"{tag:08X}" for tag, _vr in PIXEL_TAGS}:
            if not one.frame_count:
                raise Http404
            return send_frames(request, one, range(1, one.frame_count + 1))
        try:
            value = bulk_value(one.header(), path)
        except KeyError as error:
            raise Http404 from error
        # Single first: who accepts anything gets the bytes themselves.
        offer, _range = negotiate(request, tuple(reversed(_OCTETS_OFFERS)))
        headers = sending.cache_headers(_etag([one], path, offer), shows_label=one.is_private)
        if (unchanged := sending.not_modified(request, headers)) is not None:
            return unchanged
        if offer == OCTETS:
            return sending.single(request, value, OCTETS, headers)
        part = (OCTETS, len(value), iter((value,)))
        return sending.multipart(request, OCTETS, [part], headers)


def asked_frames(text: str) -> list[int]:
    """Return the numbers of a frame list; refuse what is none."""
    try:
        return frame_numbers(text)
    except ValueError as error:
        raise BadDicomRequest("A frame list is numbers with commas, from 1.") from error


def send_frames(request: Request, one: DicomObject, numbers: Sequence[int]) -> HttpResponseBase:
    """Return the answer with these frames, which exist."""
    try:
        decodes = one.frame_format.decodes
    except KeyError:
        decodes = False
    answer = choose_frames(
        accepted(request), one.transfer_syntax_uid, len(numbers), decodes=decodes
    )
    if answer is None:
        raise NotAcceptable(
            "These frames cannot be sent in a media type and transfer syntax that you accept. "
            f"They are kept in {one.transfer_syntax_uid}."
        )
    etag = frames_etag(one.sop_uid, one.version, numbers, answer)
    headers = sending.cache_headers(etag, shows_label=one.is_private)
    if (unchanged := sending.not_modified(request, headers)) is not None:
        return unchanged

    def read(number: int) -> bytes:
        frame = one.frame(number)
        if not answer.is_decoded:
            return frame
        try:
            return native_bytes(frame, one.frame_format)
        except WsiError as error:
            raise SlideUnreadable(error.message, code=error.code) from error

    if not answer.is_multipart:
        return sending.single(request, read(numbers[0]), answer.part_type, headers)

    def later(number: int) -> Iterator[bytes]:
        yield read(number)

    if len(numbers) > 1:
        sizes = [None if answer.is_decoded else one.frame_size(number) for number in numbers]
        parts = [
            (answer.part_type, size, later(number))
            for number, size in zip(numbers, sizes, strict=True)
        ]
        return sending.multipart(request, answer.media_type, parts, headers)
    frame = read(numbers[0])
    return sending.multipart(
        request, answer.media_type, [(answer.part_type, len(frame), iter((frame,)))], headers
    )


def frames_etag(sop_uid: str, version: str, numbers: Sequence[int], answer: FrameAnswer) -> str:
    """Return the ETag of these frames in this form."""
    span = (
        f"{numbers[0]}-{numbers[-1]}" if isinstance(numbers, range) else ",".join(map(str, numbers))
    )
    text = f"{sop_uid} {version} {span} {answer.part_type} {answer.is_multipart}"
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def _etag(found: Sequence[DicomObject], *how: Any) -> str:
    text = repr(([(one.sop_uid, one.version) for one in found], how))
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def takes_gzip(accept_encoding: str) -> bool:
    """Return whether the client takes gzip, which it may also refuse by weight (RFC 9110)."""
    for entry in accept_encoding.lower().split(","):
        name, _semicolon, weight = entry.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
