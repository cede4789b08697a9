"""Listens to cases' signals, inside their transactions."""

from typing import Any

from django.dispatch import receiver

from cases.models import Report, SlideImage
from cases.signals import report_saved, slide_image_ready
from retrieval.services.indexing import index_ensure
from retrieval.services.report_words import report_words_write
from retrieval.services.reports import report_embedding_enqueue


@receiver(slide_image_ready, dispatch_uid="retrieval.index_slide_image")
def index_slide_image(sender: Any, slide_image: SlideImage, **kwargs: Any) -> None:
    """Queue the indexing of a new or changed slide image, in the same commit."""
    index_ensure(slide_image=slide_image)


@receiver(report_saved, dispatch_uid="retrieval.embed_report")
def embed_report(sender: Any, report: Report, **kwargs: Any) -> None:
    """Read a new version of a report and queue its embedding, in the same commit."""
    report_words_write([report])
    report_embedding_enqueue(report)
