"""Who looked at which case and which slide."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from cases.models import AccessEvent, Case, SlideImage
from cases.openings import Opening, way_in_to
from cases.services.audit import Action, access_event_record
from cases.services.locks import one_at_a_time

# Moving around in a slide is one look at it.
ONE_LOOK = timedelta(minutes=15)


def case_view_record(*, user: Any, case: Case) -> None:
    """Record that the user opened the case."""
    access_event_record(
        user=user,
        action=Action.VIEW,
        department_id=case.department_id,
        patient_id=case.patient_id,
        target=case,
    )


# (user, slide image) -> until when a look is on record, for those who cannot ask each time.
_recorded: dict[tuple[Any, Any], datetime] = {}
_RECORDED_MAX = 100_000


def look_is_recorded(user_id: Any, slide_image_id: Any) -> bool:
    """Return whether this process knows of a look at the slide that still covers this moment."""
    until = _recorded.get((user_id, slide_image_id))
    return until is not None and timezone.now() < until


def slide_view_record(*, user: Any, slide_image: SlideImage) -> None:
    """Record that the user opened the slide, once per quarter of an hour, and by each way in."""
    opening = way_in_to(user, slide_image)
    if _recent_look(user, slide_image, opening):
        return
    with transaction.atomic():
        # Many tiles are asked for at the same time; one of them writes.
        one_at_a_time(f"look {user.pk} {slide_image.pk}")
        if _recent_look(user, slide_image, opening):
            return
        event = access_event_record(
            user=user,
            action=Action.VIEW,
            department_id=slide_image.department_id,
            patient_id=slide_image.slide.case.patient_id,
            target=slide_image,
        )
    key = (user.pk, slide_image.pk)
    transaction.on_commit(partial(_remember, key, event.at + ONE_LOOK))


def _recent_look(user: Any, slide_image: SlideImage, opening: Opening | None) -> bool:
    by_it = {} if opening is None else {"detail__opening": str(opening.pk)}
    recent = (
        AccessEvent.objects.filter(
            **by_it,
            user=user,
            action=Action.VIEW,
            object_type=slide_image._meta.model_name,
            object_id=str(slide_image.pk),
            at__gte=timezone.now() - ONE_LOOK,
        )
        .exclude(detail__has_key="part")  # a look at the label is one of its own
        .values_list("at", flat=True)
        .first()
    )
    if recent is not None and not connection.in_atomic_block:
        _remember((user.pk, slide_image.pk), recent + ONE_LOOK)
    return recent is not None


def _remember(key: tuple[Any, Any], until: datetime) -> None:
    if len(_recorded) >= _RECORDED_MAX:
        _recorded.clear()
    _recorded[key] = until
