"""State changes of background jobs, each one conditional UPDATE (compare and swap).

The rules: attempts are counted before the work; a running job holds a lease that it renews;
a finished job writes its result and its state in one transaction, only while it still holds
the lease. So any number of doubled messages and killed workers end in one result.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from cases.errors import LeaseLost
from cases.models import LeasedWork
from cases.services.queue import enqueue, messages_wait

QUEUED, RUNNING, FAILED = "queued", "running", "failed"
ALWAYS = Q()


@dataclass(frozen=True)
class Lease:
    """The right to work on one row, until it expires."""

    model: type[LeasedWork]
    pk: Any
    token: uuid.UUID

    def _mine(self):
        return self.model._base_manager.filter(pk=self.pk, lease_token=self.token, state=RUNNING)

    def heartbeat(self, *, done: int = 0, total: int = 0, step: str = "") -> None:
        """Renew the lease and tell the progress. Raises LeaseLost when it was taken over."""
        now = timezone.now()
        renewed = self._mine().update(
            heartbeat_at=now,
            lease_expires_at=now + timedelta(seconds=settings.LEASE_SECONDS),
            progress_done=done,
            progress_total=total,
            progress_step=step,
        )
        if not renewed:
            raise LeaseLost

    def finish(self, state: str, **fields: Any) -> None:
        """Set the final state. Call it in the transaction that writes the result."""
        now = timezone.now()
        finished = self._mine().update(
            state=state,
            finished_at=now,
            heartbeat_at=now,
            lease_token=None,
            lease_expires_at=None,
            **fields,
        )
        if not finished:
            raise LeaseLost

    def give_back(self, *, reason_code: str, reason: str) -> bool:
        """After an unexpected error: queue again, or fail for good. Returns whether queued."""
        row = self._mine().first()
        if row is None:
            raise LeaseLost
        again = row.attempts < settings.MAX_ATTEMPTS
        self.finish(QUEUED if again else FAILED, reason_code=reason_code, reason=reason[:500])
        return again


def claim(model: type[LeasedWork], pk: Any, *, due: Q = ALWAYS) -> Lease | None:
    """Return a lease on a queued row, with its attempt counted; None when it is not to be had.

    due: what must hold of the row besides, in the same UPDATE.
    """
    now = timezone.now()
    token = uuid.uuid4()
    claimed = model._base_manager.filter(due, pk=pk, state=QUEUED).update(
        state=RUNNING,
        attempts=F("attempts") + 1,
        started_at=now,
        finished_at=None,
        heartbeat_at=now,
        lease_token=token,
        lease_expires_at=now + timedelta(seconds=settings.LEASE_SECONDS),
        progress_done=0,
        progress_total=0,
        progress_step="",
        reason_code="",
        reason="",
    )
    return Lease(model, pk, token) if claimed else None


def expire_leases(model: type[LeasedWork]) -> tuple[list[Any], list[Any]]:
    """Queue the jobs whose worker was lost, fail those out of attempts: (queued, failed) ids."""
    queued, failed = [], []
    lost = model._base_manager.filter(state=RUNNING, lease_expires_at__lt=timezone.now())
    for pk, token, attempts in lost.values_list("pk", "lease_token", "attempts"):
        again = attempts < settings.MAX_ATTEMPTS
        changed = model._base_manager.filter(pk=pk, lease_token=token, state=RUNNING).update(
            state=QUEUED if again else FAILED,
            lease_token=None,
            lease_expires_at=None,
            finished_at=None if again else timezone.now(),
            reason_code="worker_lost",
            reason=f"The worker stopped without a word (attempt {attempts}).",
        )
        if changed:
            (queued if again else failed).append(pk)
    return queued, failed


def forgotten(
    model: type[LeasedWork], *, cluster: str = "default", older_than_seconds: float = 120
) -> list[Any]:
    """Return queued jobs that no worker will come for: enqueued long ago, and nobody is working.

    A killed cluster takes the messages it had fetched with it. While others lie there, none
    is sent again: a cluster that is away for a night would find each job hundreds of times.
    """
    now = timezone.now()
    if messages_wait(cluster):
        return []
    if model._base_manager.filter(state=RUNNING, lease_expires_at__gte=now).exists():
        return []
    return list(
        model._base_manager.filter(
            state=QUEUED, enqueued_at__lt=now - timedelta(seconds=older_than_seconds)
        ).values_list("pk", flat=True)
    )


def wake_lost(model: type[LeasedWork], task: str) -> None:
    """Send the message again for what a lost worker, or a lost message, left."""
    queued, _failed = expire_leases(model)
    for pk in {*queued, *forgotten(model)}:
        with transaction.atomic():
            row = model._base_manager.select_for_update().filter(pk=pk).first()
            if row is not None and row.state == QUEUED:
                enqueue(task, row)


def requeue(model: type[LeasedWork], pk: Any, *, from_states: list[str]) -> bool:
    """Queue a finished job again with fresh attempts; returns whether this call did it."""
    return bool(
        model._base_manager.filter(pk=pk, state__in=from_states).update(
            state=QUEUED,
            attempts=0,
            reason_code="",
            reason="",
            finished_at=None,
            progress_done=0,
            progress_total=0,
            progress_step="",
        )
    )


@contextmanager
def result_transaction(lease: Lease, state: str, **fields: Any) -> Iterator[None]:
    """Write a result and the final state together, or neither."""
    with transaction.atomic():
        yield
        lease.finish(state, **fields)
