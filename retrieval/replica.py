"""Reading candidates from a streaming replica, where the site has one.

Only what is compared and ranked is read there. Who may search, what is shown and what is recorded
stays with the primary, so that a right taken away holds at once: an answer's hits pass
`visible_to` on the primary again before anyone sees them.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connections

log = logging.getLogger(__name__)

ALIAS = "replica"
# A replica that is further behind is left to catch up.
LAG_MOST_SECONDS = 10.0
# How long one look at the replica holds for this process.
_LOOK_SECONDS = 5.0
_LAG = """
SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver),
       CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END
"""

_reads_from: ContextVar[str | None] = ContextVar("reads_from", default=None)
_looked: tuple[float, bool] = (0.0, False)


Answer = TypeVar("Answer")


class ReplicaRouter:
    """Sends reads to the replica inside `_reading`, and everything else where it always went."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Return the replica's alias while candidates are gathered."""
        return _reads_from.get()

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        """Return true: both databases are one."""
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Return whether to migrate this one: the replica follows by itself."""
        return db != ALIAS


def gathered_near(gather: Callable[[], Answer]) -> Answer:
    """Return what `gather` reads from the replica if it is fit, else from the primary.

    A replica that fails on the way costs time, not the answer.
    """
    if _is_fit():
        try:
            with _reading():
                return gather()
        except (OperationalError, InterfaceError) as error:
            log.warning("The replica did not answer, the primary does: %s", type(error).__name__)
            _remember(is_fit=False)
    return gather()


@contextmanager
def _reading() -> Iterator[None]:
    before = _reads_from.set(ALIAS)
    try:
        yield
    finally:
        _reads_from.reset(before)


def _is_fit() -> bool:
    if ALIAS not in settings.DATABASES:
        return False
    at, is_fit = _looked
    if time.monotonic() - at < _LOOK_SECONDS:
        return is_fit
    try:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(_LAG)
            follows, lag = cursor.fetchone()
        is_fit = bool(follows) and lag is not None and float(lag) <= LAG_MOST_SECONDS
        if not is_fit:
            log.warning("The replica is not read: it is behind, or follows nobody")
    except DatabaseError as error:
        log.warning("The replica is not read: %s", type(error).__name__)
        connections[ALIAS].close()
        is_fit = False
    _remember(is_fit=is_fit)
    return is_fit


def _remember(*, is_fit: bool) -> None:
    global _looked
    _looked = (time.monotonic(), is_fit)
