"""Background tasks of cases. Arguments are ids; the state is in the rows."""

from cases.models import SlideImage
from cases.services import (
    audit_chain,
    derived,
    export_run,
    exports,
    processing,
    retention_run,
    sweep,
    thumbnails,
)


def process_upload_task(upload_id: str) -> None:
    """Process one upload."""
    processing.upload_process(upload_id)


def make_thumbnail_task(slide_image_id: str) -> None:
    """Make the thumbnail of a slide image that a person took in."""
    slide_image = SlideImage.objects.filter(pk=slide_image_id).first()
    if slide_image is not None:
        thumbnails.thumbnail_make(slide_image)


def run_export_task(export_id: str) -> None:
    """Make one de-identified export."""
    export_run.export_run(export_id)


def delete_case_task(deletion_id: str) -> None:
    """Delete one case that two people decided to delete."""
    retention_run.deletion_run(deletion_id)


def sweep_task() -> None:
    """Each minute: take up what a lost worker or a lost message left, let exports expire."""
    sweep.sweep_uploads()
    retention_run.sweep_deletions()
    exports.sweep_exports()


def sweep_store_task() -> None:
    """Each hour: cancel abandoned uploads, then remove what no row knows from the disk."""
    sweep.sweep_abandoned()
    sweep.sweep_pieces()
    sweep.sweep_store()
    derived.derived_sweep()


def audit_months_task() -> None:
    """Each day: make the audit's next months, and remove those past the retention setting."""
    audit_chain.months_ensure()
    audit_chain.months_retire()
