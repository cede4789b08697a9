"""The map of the archive: the page, and its points in scope as bytes."""

import gzip

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cases import permissions, selectors
from cases.services.audit import Action, access_event_record
from retrieval import selectors_map


@login_required
@require_safe
def archive_map(request: HttpRequest) -> HttpResponse:
    """Show the map; its points come by themselves."""
    _require(request)
    cohorts = selectors.cohorts_to_curate(request.user)
    return render(request, "retrieval/map.html", {"cohorts": cohorts})


@login_required
@require_safe
def map_points(request: HttpRequest) -> HttpResponse:
    """Send the points that the user may see (`selectors_map.ArchiveMap.packed`)."""
    _require(request)
    found = selectors_map.archive_map(request.user)
    access_event_record(
        user=request.user, action=Action.VIEW, detail={"page": "map", "slides": len(found.ids)}
    )
    body, headers = (
        found.packed(),
        {"Cache-Control": "no-store, private", "Vary": "Accept-Encoding"},
    )
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = gzip.compress(body, 1, mtime=0), "gzip"
    return HttpResponse(body, content_type="application/octet-stream", headers=headers)


def _require(request: HttpRequest) -> None:
    if not permissions.departments_with(request.user, "search"):
        raise PermissionDenied
