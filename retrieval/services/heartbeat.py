"""Keeps the lease of a long job while its slow steps run."""

import logging
import threading
import time
from typing import Self

from django.conf import settings
from django.db import connection

from cases.errors import LeaseLost
from cases.services import work

log = logging.getLogger(__name__)

# Seconds between two writes of the progress: a page asks every two.
PROGRESS_SECONDS = 1.0


class Heartbeat:
    """Renews a lease while slow steps run, and writes the progress.

    `tell` is the progress callback of the work. It writes at most once a second; a thread
    writes when `tell` has been silent for a third of the lease. Losing the lease raises
    LeaseLost from the next `tell`, so that no work goes on for nothing.
    """

    def __init__(self, lease: work.Lease) -> None:
        self.lease = lease
        self._latest: tuple[int, int, str] = (0, 0, "open")
        self._written_at = time.monotonic()
        self._lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def tell(self, done: int, total: int, step: str) -> None:
        """Note the progress. Raises LeaseLost when another worker has the job."""
        changed = step != self._latest[2]
        self._latest = (done, total, step)
        if self._lost:
            raise LeaseLost
        if changed or time.monotonic() - self._written_at >= PROGRESS_SECONDS:
            self._write()

    def _write(self) -> None:
        self._written_at = time.monotonic()
        done, total, step = self._latest
        self.lease.heartbeat(done=done, total=total, step=step)

    def _keep(self) -> None:
        patience = settings.LEASE_SECONDS / 3
        try:
            while not self._stop.wait(patience / 4):
                if time.monotonic() - self._written_at >= patience:
                    self._write()
        except LeaseLost:
            self._lost = True
        except Exception:
            # The database is away for a moment, or for good: then the lease runs out by itself.
            log.exception("heartbeat of job %s failed", self.lease.pk)
            self._lost = True
        finally:
            # The thread's own connection.
            connection.close()
