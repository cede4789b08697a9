"""Who looked at which case and which slide."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from cases.models import AccessEvent, Case, SlideImage
from cases.services.audit import Action, access_event_record

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


def slide_view_record(*, user: Any, slide_image: SlideImage) -> None:
    """Record that the user opened the slide, once per quarter of an hour."""
    recent = AccessEvent.objects.filter(
        user=user,
        action=Action.VIEW,
        object_type=slide_image._meta.model_name,
        object_id=str(slide_image.pk),
        at__gte=timezone.now() - ONE_LOOK,
    ).exclude(detail__has_key="part")  # a look at the label is one of its own
    if recent.exists():
        return
    access_event_record(
        user=user,
        action=Action.VIEW,
        department_id=slide_image.department_id,
        patient_id=slide_image.slide.case.patient_id,
        target=slide_image,
    )
