"""Makes the small picture of a slide at its acceptance, so that lists need no decoding."""

import logging

from cases.errors import DomainError
from cases.models import SlideImage, SlideUpload, UploadItem
from cases.services import pixels, store

log = logging.getLogger(__name__)


def thumbnails_of_upload(upload: SlideUpload) -> None:
    """Make the thumbnails of the slides that an upload brought, or brought more of."""
    accepted = upload.items.filter(state=UploadItem.State.ACCEPTED, slide_image__isnull=False)
    for item in accepted.select_related("slide_image"):
        thumbnail_make(item.slide_image)


def thumbnail_make(slide_image: SlideImage) -> bool:
    """Make the thumbnail, also in place of an older one; returns whether there is one now."""
    store.thumbnail_file(slide_image.pk).unlink(missing_ok=True)
    try:
        pixels.thumbnail_jpeg(slide_image)
    except (DomainError, OSError) as error:
        log.warning("slide image %s: no thumbnail (%s)", slide_image.pk, type(error).__name__)
        return False
    return True
