"""A row that a background worker works on: attempts, lease, heartbeat, progress, reason.

The queue only wakes a worker. What is to be done, and whether it was, is said here, so a
killed worker, a lost message or a doubled one change nothing (cases.services.work).
"""

from django.db import models
from django.utils import timezone


class LeasedWork(models.Model):
    """State of one job. Subclasses define `state` with at least QUEUED, RUNNING and FAILED."""

    attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    enqueued_at = models.DateTimeField(null=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    lease_token = models.UUIDField(null=True, editable=False)
    lease_expires_at = models.DateTimeField(null=True, editable=False, db_index=True)
    progress_done = models.PositiveIntegerField(default=0, editable=False)
    progress_total = models.PositiveIntegerField(default=0, editable=False)
    progress_step = models.CharField(max_length=40, blank=True, editable=False)
    reason_code = models.CharField(max_length=60, blank=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        abstract = True

    @property
    def progress_percent(self) -> int:
        """Return how far the running step is, 0 to 100."""
        if not self.progress_total:
            return 0
        return min(100, round(100 * self.progress_done / self.progress_total))

    @property
    def seconds_left(self) -> float | None:
        """Return how long the rest takes at the pace so far, or None where that is not known."""
        if self.started_at is None or not 0 < self.progress_done < self.progress_total:
            return None
        spent = (timezone.now() - self.started_at).total_seconds()
        return spent * (self.progress_total - self.progress_done) / self.progress_done
