"""QIDO-RS (PS3.18 10.6): search for studies, series and instances."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from rest_framework.request import Request

from cases.dicomweb import search
from cases.dicomweb.base import DICOM_JSON, JSON, DicomWebView, base_url, listing_record, negotiate
from cases.dicomweb.errors import BadDicomRequest
from cases.dicomweb.results import Results, Told, described_told
from cases.dicomweb.virtual import VirtualObject
from cases.dicomweb.wire.native_xml import to_xml
from cases.dicomweb.wire.query import Key, Query, QueryError, matches, parse_query
from cases.models import SlideImage
from cases.wsi.attributes import searchable

XML = 'multipart/related; type="application/dicom+xml"'
_XML_BOUNDARY = "dicom-xml-part"
_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
_CAPPED = (
    "The number of results exceeded the maximum supported by the server. "
    "Additional results can be requested."
)


class SearchView(DicomWebView, ABC):
    """Base: reads the query, cuts the page, warns, records the look, writes the answer."""

    levels: tuple[str, ...] = ()

    def get(self, request: Request, study_uid: str = "", series_uid: str = "") -> HttpResponse:
        """Search, among what lies below the study and series of the address, if it names them."""
        answer_type, _range = negotiate(request, (DICOM_JSON, JSON, XML))
        query = _query(request)
        _require_visible(request.user, study_uid, series_uid)
        within = [
            Key((tag,), "UI", (uid,))
            for tag, uid in ((search.STUDY_UID, study_uid), (search.SERIES_UID, series_uid))
            if uid
        ]
        query = replace(query, keys=(*within, *query.keys))
        cap = settings.QIDO_MAX_RESULTS
        asked = cap if query.limit is None else min(query.limit, cap)
        # The address' own level is known to who asks; the others are told.
        hidden = {"study"} if study_uid else set()
        hidden |= {"series"} if series_uid else set()
        levels = [level for level in self.levels if level not in hidden]
        results = Results(request.user, query, base_url(request), levels)
        # One more than is sent tells whether there is more.
        told, images = self.page(results, query, query.offset, asked + 1)
        is_capped = len(told) > asked and asked == cap
        listing_record(
            user=request.user, slide_images=images[:asked], detail={"search": self.levels[-1]}
        )
        return _answer(told[:asked], answer_type, query.asks_fuzzy, is_capped, base_url(request))

    @abstractmethod
    def page(
        self, results: Results, query: Query, offset: int, limit: int
    ) -> tuple[list[Told], list[SlideImage]]:
        """Return the datasets of the page, and the slide image behind each."""


class SearchStudies(SearchView):
    """`/studies`."""

    levels = ("study",)

    def page(self, results, query, offset, limit):
        user = results.user
        stored = (
            search.images_matching(user, query)
            .order_by("study_instance_uid")
            .values_list("study_instance_uid", flat=True)
            .distinct()
        )
        rows, left = search.virtual_matching(user, query)
        if left:
            held = _held(rows.order_by("slide__case"), left)
            cases: Any = _distinct(image.slide.case_id for image in held)
        else:
            cases = rows.order_by("slide__case").values_list("slide__case", flat=True).distinct()
        uids, case_ids = _paged([stored, cases], offset, limit)
        told = results.studies(uids, case_ids)
        behind = search.stored_images(user).filter(study_instance_uid__in=uids)
        vendor = search.vendor_images(user).filter(slide__case__in=case_ids)
        return told, [*behind, *vendor]


class SearchSeries(SearchView):
    """`/series` and `/studies/{study}/series`."""

    levels = ("study", "series")

    def page(self, results, query, offset, limit):
        user = results.user
        stored = (
            search.images_matching(user, query)
            .order_by("study_instance_uid", "series_instance_uid", "pk")
            # One series may have come to two departments of the user.
            .distinct("study_instance_uid", "series_instance_uid")
        )
        derived = search.derived_matching(user, query).order_by("series_instance_uid", "pk")
        rows, left = search.virtual_matching(user, query)
        vendor = _held(rows.order_by("pk"), left) if left else rows.order_by("pk")
        images, made, virtual = _paged([stored, derived, vendor], offset, limit)
        told = results.series([*images, *virtual], made)
        return told, [*images, *virtual, *(one.slide_image for one in made)]


class SearchInstances(SearchView):
    """`/instances`, `/studies/{study}/instances` and `/studies/{}/series/{}/instances`."""

    levels = ("study", "series", "instance")

    def page(self, results, query, offset, limit):
        user = results.user
        stored = (
            search.instances_matching(user, query)
            .order_by(
                "slide_image__study_instance_uid",
                "slide_image__series_instance_uid",
                "sop_instance_uid",
                "pk",
            )
            .distinct(
                "slide_image__study_instance_uid",
                "slide_image__series_instance_uid",
                "sop_instance_uid",
            )
        )
        derived = search.derived_matching(user, query).order_by("sop_instance_uid", "pk")
        rows, left = search.virtual_matching(user, query)
        virtual = _virtual_held(results, rows.order_by("pk"), left)
        one, two, three = _paged([stored, derived, virtual], offset, limit)
        told = results.instances(one, two, three)
        return told, [row.slide_image for row in (*one, *two, *three)]


def _query(request: Request) -> Query:
    try:
        return parse_query(
            (name, value) for name in request.GET for value in request.GET.getlist(name)
        )
    except QueryError as error:
        raise BadDicomRequest(error.message, code=error.code) from error


def _require_visible(user: Any, study: str, series: str) -> None:
    """Raise the same 404 for a study or series of the address that is hidden or missing."""
    if not study:
        return
    keys = [Key((search.STUDY_UID,), "UI", (study,))]
    if series:
        keys.append(Key((search.SERIES_UID,), "UI", (series,)))
    query = Query(keys=tuple(keys))
    sources: list[QuerySet] = [
        search.images_matching(user, query),
        search.virtual_matching(user, query)[0],
        search.derived_matching(user, query),
    ]
    if not any(source.exists() for source in sources):
        raise Http404


def _held(rows: QuerySet[SlideImage], keys: Sequence[Key]) -> Iterator[SlideImage]:
    """Yield the vendor slides whose description matches the keys that no column answers."""
    for image in rows.iterator(chunk_size=500):
        told = described_told(image)
        if all(matches(key, told) for key in keys if key.tag != search.SOP_UID):
            yield image


def _virtual_held(
    results: Results, rows: QuerySet[SlideImage], keys: Sequence[Key]
) -> Iterator[VirtualObject]:
    for image in rows.iterator(chunk_size=500):
        for one in results.virtual_instances(image):
            by_uid = [key for key in keys if key.tag == search.SOP_UID]
            others = [key for key in keys if key.tag != search.SOP_UID]
            if any(one.sop_uid not in key.values for key in by_uid):
                continue
            if not others or _all_match(others, searchable(one.header())):
                yield one


def _all_match(keys: Sequence[Key], told: Told) -> bool:
    return all(matches(key, told) for key in keys)


def _distinct(values: Iterator[Any]) -> Iterator[Any]:
    last = object()
    for value in values:
        if value != last:
            yield value
        last = value


def _paged(sources: Sequence[Any], offset: int, limit: int) -> list[list[Any]]:
    """Return a page of the sources, one after the other, as one list per source.

    Each source has a fixed order, so that pages neither overlap nor leave anything out. Only
    what lies before the page is counted, by the database where the source is a queryset.
    """
    pages = []
    for source in sources:
        if isinstance(source, QuerySet):
            page = list(source[offset : offset + limit]) if limit else []
            skipped = 0 if page or not offset else min(offset, source.count())
        else:
            skipped = sum(1 for _one in islice(source, offset)) if limit else 0
            page = list(islice(source, limit)) if skipped == offset else []
        pages.append(page)
        offset = 0 if page else offset - skipped
        limit -= len(page)
    return pages


def _answer(
    told: Sequence[Told], answer_type: str, asks_fuzzy: bool, is_capped: bool, root: str
) -> HttpResponse:
    if answer_type == XML:
        parts = [
            f"--{_XML_BOUNDARY}\r\nContent-Type: application/dicom+xml\r\n\r\n".encode()
            + to_xml(one)
            + b"\r\n"
            for one in told
        ]
        body = b"".join(parts) + f"--{_XML_BOUNDARY}--\r\n".encode()
        answer_type = f"{XML}; boundary={_XML_BOUNDARY}"
    else:
        body = json.dumps(told).encode()
    response = HttpResponse(body, content_type=answer_type)
    warnings = [text for text, holds in ((_FUZZY, asks_fuzzy), (_CAPPED, is_capped)) if holds]
    if warnings:
        response.headers["Warning"] = ", ".join(f'299 {root} "{text}"' for text in warnings)
    response.headers["Vary"] = "Accept, Authorization, Cookie"
    return response
