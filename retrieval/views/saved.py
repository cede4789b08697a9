"""Saved searches: the list with what is new, keeping, opening and forgetting one."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from cases.errors import DomainError
from cases.permissions import departments_with
from retrieval import selectors
from retrieval.models import SavedSearch
from retrieval.services.looks import search_history_record
from retrieval.services.saved_searches import (
    saved_search_create,
    saved_search_delete,
    saved_search_seen,
)


@login_required
@require_safe
def saved_searches(request: HttpRequest) -> HttpResponse:
    """List the user's saved searches whose questions the user may still read."""
    if not departments_with(request.user, "search"):
        raise PermissionDenied
    saved = selectors.saved_searches_of(request.user)
    search_history_record(user=request.user, queries=[row.query for row in saved])
    return render(request, "search/saved.html", {"saved_searches": saved})


@login_required
@require_POST
def saved_search_new(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Keep a question that the user may read."""
    query = selectors.search_visible_or_404(request.user, pk)
    name = " ".join(request.POST.get("name", "").replace("\x00", " ").split())[:80]
    if not name:
        messages.error(request, _("Give the saved search a name."))
        return redirect("search_results", pk=query.pk)
    try:
        saved_search_create(user=request.user, query=query, name=name)
        messages.success(
            request, _("The search is saved. You are told here when something new answers it.")
        )
    except DomainError as error:
        messages.error(request, error.message)
    return redirect("search_results", pk=query.pk)


@login_required
@require_POST
def saved_search_open(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Go to the answer with what is new, which then is no more."""
    saved = get_object_or_404(SavedSearch, user=request.user, pk=pk)
    return redirect("search_results", pk=saved_search_seen(saved=saved).pk)


@login_required
@require_POST
def saved_search_remove(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Forget one of the user's own saved searches."""
    saved_search_delete(saved=get_object_or_404(SavedSearch, user=request.user, pk=pk))
    messages.success(request, _("The saved search is removed."))
    return redirect("saved_searches")
