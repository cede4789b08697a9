"""Makes the small picture of a slide at its acceptance, so that lists need no decoding."""

import logging

from cases.errors import DomainError
from cases.models import SlideImage, UploadItem
from cases.services import pixels, store

log = logging.getLogger(__name__)


def thumbnail_ensure(item: UploadItem) -> None:
    """Make the thumbnail of an accepted item where it is missing; a failure stops nothing."""
    if item.state == UploadItem.State.ACCEPTED and item.slide_image is not None:
        thumbnail_make(item.slide_image)


def thumbnail_make(slide_image: SlideImage) -> bool:
    """Make the thumbnail unless it is there; returns whether there is one now."""
    if store.thumbnail_file(slide_image.pk).exists():
        return True
    try:
        pixels.thumbnail_jpeg(slide_image)
    except (DomainError, OSError) as error:
        log.warning("slide image %s: no thumbnail (%s)", slide_image.pk, type(error).__name__)
        return False
    return True
