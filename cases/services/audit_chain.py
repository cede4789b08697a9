"""Verifies the chain over all access events, and keeps their months.

The chain is written by the database (migration 0010): link n holds SHA-256 over the digest of
link n - 1 and the content of its event. Verification computes each digest anew in Python,
from the rows alone, so that it trusts no function that lies in the database.

Whoever owns the database could still write a whole new chain. Its head, noted elsewhere from
time to time (`audit_verify` prints it), shows that too.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from cases.models import AuditRetirement
from cases.row_scope import acting_as_owner
from cases.services.audit import Action, access_event_record

log = logging.getLogger(__name__)

MONTHS_AHEAD = 3
FETCH = 5000
FINDINGS_MAX = 100
REPORT_EVERY = 50_000

# The words of the migration's audit_content; a test holds the two together.
_LINKS = """
SELECT s.seq, s.event_id, s.event_at, s.digest, e.id IS NOT NULL, jsonb_build_array(
    e.id, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), e.user_id, e.action,
    e.channel, host(e.address), e.department_id, e.patient_id, e.object_type, e.object_id,
    e.outcome, e.reason, e.request_id, e.detail
)::text
FROM cases_auditseal s LEFT JOIN cases_accessevent e ON e.id = s.event_id AND e.at = s.event_at
ORDER BY s.seq
"""
_UNSEALED = """
SELECT e.id FROM cases_accessevent e
WHERE NOT EXISTS (SELECT 1 FROM cases_auditseal s WHERE s.event_id = e.id)
ORDER BY e.at LIMIT %s
"""


@dataclass
class Verification:
    """What verifying found. `head`: the last link as ``SEQ:DIGEST``, to be noted elsewhere."""

    links: int = 0
    retired: int = 0
    head: str = "0:"
    findings: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Return whether nothing was tampered with."""
        return not self.findings

    def found(self, what: str) -> None:
        """Note a break; the first hundred are enough."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(what)


def audit_verify(
    *, anchors: dict[int, str] | None = None, progress: Callable[[int], None] = lambda _: None
) -> Verification:
    """Return whether the events are as they were written, computed over all of them.

    anchors: digests (hexadecimal) by link, as noted elsewhere at earlier times.
    """
    result = Verification()
    anchors = dict(anchors or {})
    retired = set(AuditRetirement.objects.values_list("month", flat=True))
    # One snapshot: events that are written meanwhile belong to the next verification.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        previous, expected = b"", 1
        for seq, event_id, at, digest, is_there, content in _streamed(_LINKS):
            digest = bytes(digest)
            if seq != expected:
                result.found(f"Links {expected} to {seq - 1} are missing.")
            if is_there:
                made = hashlib.sha256(previous + content.encode()).digest()
                if made != digest:
                    result.found(f"Link {seq}: event {event_id} was changed, or its link was.")
            elif at.date().replace(day=1) in retired:
                result.retired += 1
            else:
                result.found(f"Link {seq}: event {event_id} of {at:%Y-%m-%d} was removed.")
            noted = anchors.pop(seq, None)
            if noted is not None and noted != digest.hex():
                result.found(f"Link {seq} is not the one that was noted: the chain was rewritten.")
            previous, expected = digest, seq + 1
            result.links += 1
            result.head = f"{seq}:{digest.hex()}"
            if result.links % REPORT_EVERY == 0:
                progress(result.links)
        for seq in anchors:
            result.found(f"Link {seq} was noted and is gone: the end of the chain was cut off.")
        cursor.execute(_UNSEALED, [FINDINGS_MAX])
        for (event_id,) in cursor.fetchall():
            result.found(f"Event {event_id} has no link: it was slipped in past the trigger.")
    return result


def _streamed(sql: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a server-side cursor: memory stays bounded however many there are."""
    with closing(connection.connection.cursor(name="audit_rows")) as cursor:
        cursor.itersize = FETCH
        cursor.execute(sql)
        yield from cursor


def months_ensure() -> int:
    """Make the partitions of this month and the next ones; return how many were made."""
    made = 0
    month = timezone.now().date().replace(day=1)
    with acting_as_owner("a partition"), connection.cursor() as cursor:
        for _ in range(MONTHS_AHEAD + 1):
            cursor.execute("SELECT audit_month_ensure(%s)", [month])
            made += bool(cursor.fetchone()[0])
            month = (month + timedelta(days=32)).replace(day=1)
    return made


def months_retire(*, now: datetime | None = None) -> list[date]:
    """Remove the months that are older than the retention setting; return them.

    Their links stay, so that the chain over what is kept can still be verified. Each removal
    is itself an event.
    """
    if not settings.AUDIT_RETENTION_MONTHS:
        return []
    first = (now or timezone.now()).date().replace(day=1)
    for _ in range(settings.AUDIT_RETENTION_MONTHS):
        first = (first - timedelta(days=1)).replace(day=1)
    return [month for month in _months_kept() if month < first and _retire(month)]


def _months_kept() -> list[date]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'cases_accessevent'::regclass ORDER BY 1"
        )
        names = [row[0] for row in cursor.fetchall()]
    stems = (name.removeprefix("cases_accessevent_y") for name in names)
    return [date(int(s[:4]), int(s[5:7]), 1) for s in stems if len(s) == 7 and s[4] == "m"]


def _retire(month: date) -> bool:
    partition = connection.ops.quote_name(f"cases_accessevent_y{month:%Y}m{month:%m}")
    with (
        acting_as_owner("a partition"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT count(*) FROM {partition}")  # noqa: S608, a name made here
        count = cursor.fetchone()[0]
        AuditRetirement.objects.create(month=month, event_count=count)
        access_event_record(
            user=None,
            action=Action.DELETE,
            reason="retention",
            detail={"audit_month": f"{month:%Y-%m}", "events": count},
        )
        cursor.execute(f"DROP TABLE {partition}")
    log.info("audit: retired the %s events of %s", count, f"{month:%Y-%m}")
    return True
