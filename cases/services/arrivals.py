"""When a series is whole.

What a person, a folder or an API upload brings is whole by itself. By network the instances
of a series come one after the other, and nobody says which is the last: there a quiet time
says it, or a storage commitment request, which a sender makes when it has sent everything.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max
from django.utils import timezone

from cases import signals
from cases.models import SlideImage, SlideUpload

NETWORK_SOURCES = frozenset({SlideUpload.Source.DICOM, SlideUpload.Source.DICOMWEB})


def settles_at(upload: SlideUpload) -> datetime | None:
    """Return until when more instances may come after those of this upload; None: none will."""
    if upload.is_whole:
        return None
    # The time since the last instance counts, not since it was looked at.
    last = upload.files.aggregate(Max("created_at"))["created_at__max"] or timezone.now()
    return last + timedelta(seconds=settings.DICOM_QUIET_SECONDS)


def images_declare_whole(slide_images: Iterable[SlideImage]) -> int:
    """Let series that still wait for more be indexed now; returns how many did.

    Call it in a transaction: who listens queues the work in the same commit.
    """
    count = 0
    for image in slide_images:
        waiting = SlideImage.objects.filter(pk=image.pk, settles_at__gt=timezone.now())
        if waiting.update(settles_at=None):
            image.settles_at = None
            signals.slide_image_ready.send(sender=SlideImage, slide_image=image)
            count += 1
    return count
