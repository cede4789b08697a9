"""Asking and reading answers: the form, the result, the history, feedback."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from cases.errors import DomainError
from cases.models import SlideImage
from cases.permissions import departments_with
from retrieval import selectors
from retrieval.filters import SearchFilters
from retrieval.models import SearchHit, SearchQuery
from retrieval.selectors import Results
from retrieval.selectors_facets import facets_counted, search_facets
from retrieval.services.feedback import feedback_give
from retrieval.services.looks import search_history_record, search_shown_record
from retrieval.services.query_images import query_image_crop
from retrieval.services.result_export import results_export_csv
from retrieval.services.search import search_refine as run_refined
from retrieval.services.search import search_run
from retrieval.views.answers import answers_context
from retrieval.views.crops import QUERY_PX, query_crop, slide_crop, whole_slide
from retrieval.views.search_forms import FeedbackForm, ImageCropForm, SearchForm

PAGE_SIZE = 25
RECENT = 8


@login_required
@require_http_methods(["GET", "POST"])
def search(request: HttpRequest) -> HttpResponse:
    """Show the form, with a slide or region in it when a link brought one; a POST asks."""
    _require_search(request)
    facets = search_facets(request.user)
    if request.method == "POST":
        return _asked(request, SearchForm(request.POST, request.FILES, facets=facets))
    form = SearchForm(facets=facets, initial=request.GET.dict())
    slide_image = _slide_image(request, request.GET.get("slide_image"))
    return _form_page(request, form, slide_image)


@login_required
@require_POST
def search_slide(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask by this slide, or by the region of it that came along."""
    _require_search(request)
    slide_image = SlideImage.objects.get_visible_or_404(request.user, pk=pk)
    data = request.POST.copy()
    data["slide_image"] = str(slide_image.pk)
    return _asked(request, SearchForm(data, facets=search_facets(request.user)))


def _asked(request: HttpRequest, form: SearchForm) -> HttpResponse:
    slide_image = _slide_image(request, form.data.get("slide_image"))
    repeat = None
    if form.data.get("repeat") and "image" not in form.files:
        repeat = selectors.search_visible_or_404(request.user, _uuid(form.data["repeat"]))
    if not form.is_valid():
        return _form_page(request, form, slide_image, repeat, status=400)
    asked = form.cleaned_data
    try:
        query = search_run(
            request.user,
            slide_image=slide_image,
            region=form.region(),
            image=asked["image"].read() if asked["image"] else None,
            image_mpp=asked["image_mpp"],
            repeat=repeat,
            text=asked["text"],
            is_literal=asked["is_literal"],
            filters=SearchFilters.from_cleaned(asked),
            image_weight=asked["image_weight"],
            text_weight=asked["text_weight"],
            include_same_patient=asked["include_same_patient"],
        )
    except DomainError as error:
        form.add_error(None, error.message)
        return _form_page(request, form, slide_image, repeat, status=error.http_status)
    return redirect("search_results", pk=query.pk)


def _form_page(
    request: HttpRequest,
    form: SearchForm,
    slide_image: SlideImage | None = None,
    repeat: SearchQuery | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    if repeat is not None:
        tissue = _tissue_of(repeat)
    elif slide_image is not None:
        box = form.box_as_sent()
        tissue = {
            "crop": slide_crop(slide_image.pk, box, QUERY_PX) if box else whole_slide(slide_image),
            "tissue_image": slide_image,
            "is_region": box is not None,
        }
    else:
        tissue = {}
    return render(request, "search/search.html", {"form": form, **tissue}, status=status)


def _tissue_of(query: SearchQuery) -> dict[str, Any]:
    return {
        "crop": query_crop(query),
        "tissue_image": query.slide_image,
        "is_region": bool(query.region),
        "image_mpp": query.image_mpp,
    }


@login_required
@require_safe
def search_results(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the answer as this reader may see it; each patient shown is recorded."""
    query = selectors.search_visible_or_404(request.user, pk)
    results = _results_shown(request, query)
    facets = search_facets(request.user)
    by_words = any(result.hit.full_text_match for result in results.hits)
    context = {
        **answers_context(request, query, results),
        "no_report_has_the_words": bool(query.text and results.hits and not by_words),
        **_tissue_of(query),
        "filters": selectors.filters_shown(request.user, query),
        "understood": query.understood.get("chips", []),
        "form": SearchForm(facets=facets, initial=SearchForm.initial_of(query)),
    }
    return render(request, "search/results.html", context)


@login_required
@require_safe
def search_export(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the answer, as this reader may see it, as a CSV file."""
    query = selectors.search_visible_or_404(request.user, pk)
    text = results_export_csv(
        user=request.user,
        results=selectors.search_results(query, request.user),
        models=selectors.models_shown(query),
    )
    return HttpResponse(
        # the mark makes spreadsheets read the file as UTF-8
        "\ufeff" + text,
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="search-{query.pk}.csv"',
            "Cache-Control": "no-store",
        },
    )


def _results_shown(request: HttpRequest, query: SearchQuery) -> Results:
    """Return the answer as this reader may see it; each patient shown is recorded."""
    results = selectors.search_results(query, request.user)
    search_shown_record(
        user=request.user,
        query=query,
        patients=results.shown_patients(),
        hits=len(results.hits),
    )
    return results


@login_required
@require_safe
def searches(request: HttpRequest) -> HttpResponse:
    """List the user's own questions."""
    _require_search(request)
    rows = Paginator(selectors.searches_of(request.user), PAGE_SIZE)
    page = rows.get_page(request.GET.get("page"))
    search_history_record(user=request.user, queries=page.object_list)
    return render(request, "search/searches.html", {"page_obj": page})


@login_required
@require_safe
def searches_recent(request: HttpRequest) -> HttpResponse:
    """List the user's last questions, for the menu of the search bar."""
    _require_search(request)
    recent = list(selectors.searches_of(request.user)[:RECENT])
    search_history_record(user=request.user, queries=recent)
    return render(request, "search/_recent.html", {"recent": recent})


@login_required
@require_safe
def search_facets_shown(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show what the question can be narrowed by, with the counts in the reader's scope."""
    query = selectors.search_visible_or_404(request.user, pk)
    facets = facets_counted(request.user, query)
    return render(request, "search/_facets.html", {"facets": facets})


@login_required
@require_POST
def search_feedback(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Take a verdict on one visible hit; to htmx, the answers in the order that it makes."""
    query = selectors.search_visible_or_404(request.user, pk)
    form = FeedbackForm(request.POST)
    if not form.is_valid():
        raise Http404
    hit = get_object_or_404(
        SearchHit.objects.visible_to(request.user), query=query, pk=form.cleaned_data["hit"]
    )
    feedback_give(user=request.user, hit=hit, verdict=form.cleaned_data["verdict"])
    if not request.htmx:
        answer = reverse("search_results", args=[query.pk])
        return redirect(f"{answer}#slide-{hit.slide_image_id}")
    results = _results_shown(request, query)
    return render(request, "search/_answers.html", answers_context(request, query, results))


@login_required
@require_POST
def search_refine(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Ask anew, moved by the reader's own marks on the answers."""
    query = selectors.search_visible_or_404(request.user, pk)
    _require_search(request)
    try:
        refined = run_refined(request.user, query)
    except DomainError as error:
        messages.warning(request, error.message)
        return redirect("search_results", pk=query.pk)
    return redirect("search_results", pk=refined.pk)


@login_required
@require_safe
def search_image(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Send the picture that was searched by, or a part of it, to who may read the question."""
    query = selectors.search_visible_or_404(request.user, pk)
    form = ImageCropForm(request.GET)
    if not query.image_jpeg or not form.is_valid():
        raise Http404
    try:
        jpeg = query_image_crop(bytes(query.image_jpeg), form.box(), form.cleaned_data["size"])
    except ValueError as error:
        raise Http404 from error
    return HttpResponse(
        jpeg, content_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
    )


def _require_search(request: HttpRequest) -> None:
    if not departments_with(request.user, "search"):
        raise PermissionDenied


def _slide_image(request: HttpRequest, value: str | None) -> SlideImage | None:
    if not value:
        return None
    rows = SlideImage.objects.select_related("slide__case__patient", "slide__specimen")
    return rows.get_visible_or_404(request.user, pk=_uuid(value))


def _uuid(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise Http404 from error
