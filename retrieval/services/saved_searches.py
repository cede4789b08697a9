"""Saved searches: keeping them, and asking them again when something new has come.

They are asked with the rights that their owner has at that moment, by the ordinary search, and so
leave the same record of it. What was told once is not told again.
"""

import logging
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from cases.errors import Conflict, DomainError
from cases.models import Report
from cases.permissions import departments_with
from cases.services.audit import Action, access_event_record
from retrieval.models import SavedSearch, SearchQuery, SlideEmbedding
from retrieval.services.search import search_again

log = logging.getLogger(__name__)

SAVED_MOST = 30
# Of a new answer only so many count: below them something is always a little alike.
TOP = 20


class TooManySaved(Conflict):
    """Each saved search is asked again and again."""

    code = "too_many_saved_searches"
    message = _("You have 30 saved searches. Remove one first.")


class SavedNameTaken(Conflict):
    """Two saved searches of one user cannot have one name."""

    code = "saved_search_name_taken"
    message = _("You have a saved search of this name. Choose another name.")


@transaction.atomic
def saved_search_create(*, user: Any, query: SearchQuery, name: str) -> SavedSearch:
    """Keep a question; the caller has checked that the user may see it."""
    if not departments_with(user, "search"):
        raise PermissionDenied("Your role does not allow searching.")
    own = SavedSearch.objects.filter(user=user)
    if own.filter(name=name).exists():
        raise SavedNameTaken
    if own.count() >= SAVED_MOST:
        raise TooManySaved
    saved = SavedSearch.objects.create(
        user=user,
        name=name,
        query=query,
        known=list(query.hits.values_list("slide_image_id", flat=True)),
        checked_at=query.created_at,
    )
    access_event_record(
        user=user, action=Action.CREATE, target=saved, detail={"query": str(query.pk)}
    )
    return saved


@transaction.atomic
def saved_search_seen(*, saved: SavedSearch) -> SearchQuery:
    """Take the new answers as looked at; returns the question whose answer shows them."""
    shown = saved.answer or saved.query
    if saved.fresh:
        saved.shown, saved.fresh = saved.fresh, []
        saved.save(update_fields=["shown", "fresh", "updated_at"])
        access_event_record(user=saved.user, action=Action.CHANGE, target=saved)
    return shown


@transaction.atomic
def saved_search_delete(*, saved: SavedSearch) -> None:
    """Forget the saved search; its question stays in the owner's history."""
    access_event_record(user=saved.user, action=Action.DELETE, target=saved)
    saved.delete()


def saved_searches_check() -> int:
    """Ask those saved searches again whose owners see something new; returns how many had news."""
    told = 0
    for saved in SavedSearch.objects.select_related("user", "query").order_by("checked_at"):
        try:
            told += saved_search_check(saved=saved)
        except (DomainError, PermissionDenied) as error:
            # The slide's index is gone, or an encoder is away: the next round tries again.
            log.warning("saved search %s: not asked (%s)", saved.pk, type(error).__name__)
    return told


def saved_search_check(*, saved: SavedSearch) -> bool:
    """Ask one saved search again if its owner sees something new; returns whether it had news."""
    user = saved.user
    query = SearchQuery.objects.visible_to(user).filter(pk=saved.query_id).first()
    if query is None or not departments_with(user, "search") or not _anything_new(saved):
        return False
    now = timezone.now()
    with transaction.atomic():
        answer = search_again(user, query)
        fresh = _fresh(saved, answer)
        if fresh:
            answer.is_automatic = True
            answer.save(update_fields=["is_automatic"])
            saved.answer = answer
            saved.known = [*saved.known, *fresh]
            saved.fresh = [*saved.fresh, *fresh]
        else:
            answer.delete()
        saved.checked_at = now
        saved.save(update_fields=["answer", "known", "fresh", "checked_at", "updated_at"])
    return bool(fresh)


def _anything_new(saved: SavedSearch) -> bool:
    since = {"created_at__gt": saved.checked_at}
    return (
        SlideEmbedding.objects.visible_to(saved.user).filter(**since).exists()
        or Report.objects.visible_to(saved.user).filter(**since, is_current=True).exists()
    )


def _fresh(saved: SavedSearch, answer: SearchQuery) -> list[Any]:
    """Return the slide images of the best hits that were indexed or reported since, not told."""
    best = list(answer.hits.order_by("rank").values_list("slide_image_id", flat=True)[:TOP])
    recent = _recent(best, saved.checked_at)
    return [pk for pk in best if pk in recent and pk not in set(saved.known)]


def _recent(slide_image_ids: list[Any], since: datetime) -> set[Any]:
    indexed = SlideEmbedding.objects.filter(
        slide_image__in=slide_image_ids, created_at__gt=since
    ).values_list("slide_image_id", flat=True)
    reported = Report.objects.filter(
        case__slides__images__in=slide_image_ids, is_current=True, created_at__gt=since
    ).values_list("case__slides__images", flat=True)
    return {*indexed, *reported}
