"""The state of indexing as badges, for a whole page of slides by one query."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django import template

from cases import permissions
from cases.models import SlideImage
from retrieval import selectors_indexing
from retrieval.models import SlideIndex

register = template.Library()

State = SlideIndex.State
_CLASSES = {
    State.QUEUED: "badge-info",
    State.RUNNING: "badge-info",
    State.INDEXED: "badge-ok",
    State.SKIPPED: "badge-warn",
    State.FAILED: "badge-bad",
}


@register.filter
def index_badge_class(state: str) -> str:
    """Return the badge class of a state."""
    return _CLASSES.get(state, "")


def _slide_images(rows: Iterable[Any]) -> Iterator[SlideImage]:
    """Yield the slide images of cases, of slides or of slide images, as prefetched."""
    for row in rows:
        if hasattr(row, "slides"):
            yield from _slide_images(row.slides.all())
        elif hasattr(row, "images"):
            yield from row.images.all()
        else:
            yield row


def _indexes(
    context: dict[str, Any], wanted: list[SlideImage], among: Iterable[Any]
) -> dict[UUID, SlideIndex | None]:
    """Return the rows of a request, asked once for all slides `among` which this one is."""
    request = context["request"]
    known: dict[UUID, SlideIndex | None] = request.__dict__.setdefault("_slide_indexes", {})
    if any(slide_image.pk not in known for slide_image in wanted):
        ids = {slide_image.pk for slide_image in [*wanted, *_slide_images(among or [])]}
        found = selectors_indexing.slide_indexes_of(user=request.user, slide_image_ids=ids)
        known.update({pk: found.get(pk) for pk in ids})
    return known


@register.inclusion_tag("retrieval/_index_badge.html", takes_context=True)
def index_badge(
    context: dict[str, Any], slide_image: SlideImage, among: Iterable[Any] = ()
) -> dict[str, Any]:
    """Show the state of one slide image. among: all rows of the page, for one query."""
    return {"index": _indexes(context, [slide_image], among)[slide_image.pk]}


@register.inclusion_tag("retrieval/_index_summary.html", takes_context=True)
def index_summary(
    context: dict[str, Any], slides: Iterable[Any], among: Iterable[Any] = ()
) -> dict[str, Any]:
    """Show the states of a case's slides, each once with its number."""
    wanted = list(_slide_images(slides))
    indexes = _indexes(context, wanted, among)
    rows = [indexes[slide_image.pk] for slide_image in wanted]
    counts = Counter(row.state for row in rows if row is not None)
    return {
        "states": [
            {"state": state, "label": State(state).label, "count": counts[state]}
            for state in State.values
            if counts[state]
        ]
    }


@register.inclusion_tag("retrieval/_index_full.html", takes_context=True)
def index_full(
    context: dict[str, Any], slide_image: SlideImage, among: Iterable[Any] = ()
) -> dict[str, Any]:
    """Show the state of one slide image with progress, time left, reason, and another try."""
    index = _indexes(context, [slide_image], among)[slide_image.pk]
    request = context["request"]
    may_retry = index is not None and permissions.may(
        request.user, "retry_work", index.department_id
    )
    return {
        "index": index,
        "may_retry": may_retry,
        "request": request,
        "csrf_token": context.get("csrf_token"),
    }


@register.simple_tag(takes_context=True)
def index_is_under_way(context: dict[str, Any], slide_images: Iterable[SlideImage]) -> bool:
    """Return whether one of these slide images waits to be indexed or is being indexed."""
    wanted = list(slide_images)
    rows = _indexes(context, wanted, wanted)
    return any(row and row.state in {State.QUEUED, State.RUNNING} for row in rows.values())
