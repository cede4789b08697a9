"""The one signal that cases sends; who listens is not its business."""

from django.dispatch import Signal

# Sent inside the transaction that makes a slide image complete, or changes its pixels.
# Argument: slide_image (SlideImage).
slide_image_ready = Signal()

# Sent inside the transaction that saves a new current version of a report.
# Argument: report (Report).
report_saved = Signal()
