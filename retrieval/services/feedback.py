"""What users say about answers."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction

from cases.permissions import departments_with
from cases.services.audit import Action, access_event_record
from retrieval.models import Feedback, SearchHit


def feedback_give(*, user: Any, hit: SearchHit, verdict: str) -> Feedback | None:
    """Record the user's verdict on a hit that they see; the same one again takes it back.

    Returns the feedback, or None when it was taken back.
    """
    if not departments_with(user, "give_feedback"):
        raise PermissionDenied("Your role does not allow giving feedback.")
    verdict = Feedback.Verdict(verdict)
    with transaction.atomic():
        given = Feedback.objects.select_for_update().filter(user=user, hit=hit).first()
        if given is not None and given.verdict == verdict:
            given.delete()
            kept = None
        else:
            kept, _created = Feedback.objects.update_or_create(
                user=user, hit=hit, defaults={"verdict": verdict}
            )
        access_event_record(
            user=user,
            action=Action.CHANGE if given else Action.CREATE,
            target=hit,
            detail={"verdict": verdict.value if kept else "", "query": str(hit.query_id)},
        )
    return kept
