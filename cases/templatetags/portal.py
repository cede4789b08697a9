"""Small pieces that pages of both apps show."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from cases import board_selectors, kept_reasons, selectors
from cases.models import Case, Report, Slide, SlideImage

register = template.Library()

_REPORT_BADGES = {
    Report.Status.PRELIMINARY: "badge-warn",
    Report.Status.FINAL: "badge-ok",
    Report.Status.AMENDED: "badge-info",
}


_KINDS = {
    "patient": gettext_lazy("Patient"),
    "case": gettext_lazy("Case"),
    "specimen": gettext_lazy("Specimen"),
    "block": gettext_lazy("Block"),
    "slide": gettext_lazy("Slide"),
    "slideimage": gettext_lazy("Scan"),
    "report": gettext_lazy("Report"),
}


@register.filter
def in_words(reason: str) -> str:
    """Return a reason that a worker kept, in the reader's language."""
    return kept_reasons.in_words(reason)


@register.filter
def kind_label(kind: str) -> str:
    """Return what a kind of clinical row is called."""
    return str(_KINDS.get(kind, kind))


@register.inclusion_tag("cases/_add_to_cohort.html", takes_context=True)
def add_to_cohort(context: dict[str, Any], form_id: str, label: str = "") -> dict[str, Any]:
    """Show a button that adds the ticked `slide_image` boxes of that form id to a cohort.

    Boxes stand anywhere on the page and name the form by their `form` attribute. Shows
    nothing to who may not curate.
    """
    request = context["request"]
    if not context.get("may_curate"):
        return {}
    return {
        "cohorts": selectors.cohorts_to_curate(request.user),
        "form_id": form_id,
        "label": label,
        "csrf_token": context["csrf_token"],
        "next": request.get_full_path(),
        "show": True,
    }


@register.inclusion_tag("cases/_add_to_board.html", takes_context=True)
def add_to_board(context: dict[str, Any], form_id: str, case: Case | None = None) -> dict[str, Any]:
    """Show a button that puts the ticked `case` and `slide_image` boxes on a tumour board.

    form_id: of the cohort dialog, whose form the boxes belong to; with a case, a form of its own
    that adds this one. Shows nothing to who prepares no boards.
    """
    if not context.get("may_show_board"):
        return {}
    return {
        # The cohort dialog has made the form for who may curate, on a page that has that dialog.
        "has_own_form": case is not None or not context.get("may_curate"),
        "case": case,
        "csrf_token": context["csrf_token"],
        "next": context["request"].get_full_path(),
        "boards": board_selectors.boards_to_fill(context["request"].user),
        "form_id": form_id,
        "show": True,
    }


@register.simple_tag(takes_context=True)
def boards_to_fill(context: dict[str, Any]) -> Any:
    """Return the tumour boards to which the user may add."""
    return board_selectors.boards_to_fill(context["request"].user)


@register.filter
def report_badge(status: str) -> str:
    """Return the badge class of a report status."""
    return _REPORT_BADGES.get(status, "")


@register.filter
def report_label(status: str) -> str:
    """Return a report status as people read it."""
    return str(Report.Status(status).label) if status in Report.Status.values else ""


@register.filter
def scans(slides: Iterable[Slide]) -> list[SlideImage]:
    """Return the scans of glass slides, as prefetched."""
    return [image for slide in slides for image in slide.images.all()]


@register.filter
def age(born: date | None) -> int | None:
    """Return the years since then."""
    if born is None:
        return None
    today = timezone.localdate()
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


@register.filter
def time_left(seconds: float | None) -> str:
    """Return a time that is still needed as people say it, or an empty text."""
    if seconds is None:
        return ""
    if seconds < 60:
        return _("less than a minute left")
    minutes = round(seconds / 60)
    if minutes < 90:
        text = ngettext("about %(count)s minute left", "about %(count)s minutes left", minutes)
        return text % {"count": minutes}
    hours = round(minutes / 60)
    text = ngettext("about %(count)s hour left", "about %(count)s hours left", hours)
    return text % {"count": hours}


@register.filter
def millimetres(pixels: int, mpp: float) -> str:
    """Return a length in level-0 pixels as millimetres."""
    return f"{pixels * mpp / 1000:.1f}"


@register.filter
def unlocalized(value: Any) -> str:
    """Return a number as JavaScript reads it."""
    return repr(value)
