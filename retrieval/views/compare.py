"""Slides side by side, and the places of a slide's tissue for the viewer."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from cases import selectors as case_selectors
from cases.models import SlideImage
from cases.services.looks import slide_view_record
from cases.views.slide import POWERS
from retrieval.selectors_places import Match, matches_between, slide_places

SLIDES_MOST = 4


class _AnswerForm(forms.Form):
    search = forms.UUIDField(required=False)
    rank = forms.IntegerField(required=False, min_value=1)


@login_required
@require_safe
def compare(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the slide beside one to three others; each look is recorded.

    `?with=` names another, once for each; `?search=` and `?rank=` the answer that found them
    alike, whose matches can then be walked through.
    """
    matches = _matches(request, pk)
    wanted = [pk]
    for other in [*_others(request), *matches[0]]:
        if other not in wanted:
            wanted.append(other)
    if len(wanted) > SLIDES_MOST:
        raise Http404(f"more than {SLIDES_MOST} slides")
    rows = SlideImage.objects.select_related(
        "department", "slide__specimen", "slide__case__patient"
    )
    images = [rows.get_visible_or_404(request.user, pk=key) for key in wanted]
    panes = []
    for image in images:
        slide_view_record(user=request.user, slide_image=image)
        case = image.slide.case
        panes.append(
            {
                "image": image,
                "case": case,
                "report": case_selectors.current_report(request.user, case),
            }
        )
    tray = case_selectors.slide_images_of_case(request.user, images[0].slide.case)
    context: dict[str, Any] = {
        "panes": panes,
        "powers": POWERS,
        "matches": [asdict(match) for match in matches[1]],
        "tray": [image for image in tray if image.pk not in wanted],
        "is_full": len(panes) == SLIDES_MOST,
    }
    return render(request, "search/compare.html", context)


@login_required
@require_safe
def slide_places_json(request: HttpRequest, pk: UUID) -> JsonResponse:
    """Send the places of the slide's tokens; the look at the slide is recorded."""
    slide_image = SlideImage.objects.select_related("slide__case").get_visible_or_404(
        request.user, pk=pk
    )
    slide_view_record(user=request.user, slide_image=slide_image)
    return JsonResponse({"places": slide_places(request.user, slide_image)})


def _others(request: HttpRequest) -> list[UUID]:
    try:
        return [UUID(value) for value in request.GET.getlist("with")]
    except ValueError as error:
        raise Http404 from error


def _matches(request: HttpRequest, pk: UUID) -> tuple[list[UUID], list[Match]]:
    form = _AnswerForm(request.GET)
    if not form.is_valid():
        raise Http404
    search, rank = form.cleaned_data["search"], form.cleaned_data["rank"]
    if not search or not rank:
        return [], []
    slides, matches = matches_between(request.user, search, rank)
    if pk not in slides:
        raise Http404("another answer")
    return slides, matches
