"""Keeping and forgetting views of the work list. They are their owner's alone."""

from typing import Any

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from cases.errors import DomainError
from cases.models import SavedView
from cases.services.audit import Action, access_event_record

VIEWS_MOST = 30


class TooManyViews(DomainError):
    """A row of hundreds of views helps nobody."""

    code = "too_many_views"
    http_status = 409
    message = _("You have 30 saved views. Remove one first.")


def saved_view_save(*, user: Any, name: str, query: str) -> SavedView:
    """Keep the view under this name; one of the same name is replaced."""
    with transaction.atomic():
        own = SavedView.objects.filter(user=user)
        if not own.filter(name=name).exists() and own.count() >= VIEWS_MOST:
            raise TooManyViews
        view, created = SavedView.objects.update_or_create(
            user=user, name=name, defaults={"query": query}
        )
        access_event_record(
            user=user, action=Action.CREATE if created else Action.CHANGE, target=view
        )
    return view


def saved_view_delete(*, view: SavedView) -> None:
    """Forget the view."""
    with transaction.atomic():
        access_event_record(user=view.user, action=Action.DELETE, target=view)
        view.delete()
