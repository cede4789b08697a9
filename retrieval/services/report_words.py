"""What current reports affirm and deny, kept as full text beside them.

Written in the transaction that saves a report, so that a report is found as soon as it is there.
The sweep and `manage.py read_reports` write what is missing: reports that are older than this,
were read by an older version of the rules, or whose clinical history changed.
"""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from cases import identity
from cases.models import Report
from retrieval.engine.words.reading import READING_VERSION, Reading, read_report
from retrieval.engine.words.sections import DIAGNOSIS, GROSS, HISTORY, MICROSCOPY, WEIGHTS
from retrieval.models import ReportWords

BATCH = 200
SWEEP_MOST = 5_000  # a sweep ends before the next one begins
# A case that was touched this long ago has been looked at by many sweeps.
_RECENT = timedelta(days=2)
HISTORY_MOST = 50_000  # characters: full text holds 1 MiB of words

_VECTOR = " || ".join(f"setweight(to_tsvector('english', %s), '{weight}')" for weight in WEIGHTS)
_UPSERT = f"""
    INSERT INTO {ReportWords._meta.db_table}
        (report_id, department_id, affirmed, denied, reading_version, updated_at)
    VALUES (%s, %s, {_VECTOR}, {_VECTOR}, {READING_VERSION}, %s)
    ON CONFLICT (report_id) DO UPDATE SET
        department_id = EXCLUDED.department_id, affirmed = EXCLUDED.affirmed,
        denied = EXCLUDED.denied, reading_version = EXCLUDED.reading_version,
        updated_at = EXCLUDED.updated_at
"""  # noqa: S608  (constants of this project only)


def reading_of(report: Report) -> Reading:
    """Return what the report affirms and denies; its case must be at hand.

    Of the texts without names, numbers and dates: who may not know them cannot search for them.
    """
    clean = identity.cleaner_of(report).clean
    return read_report(
        [
            (DIAGNOSIS, clean(report.diagnosis_line)),
            (DIAGNOSIS, clean(report.diagnosis_text)),
            (MICROSCOPY, clean(report.microscopic_description)),
            (MICROSCOPY, clean(report.comment)),
            (HISTORY, clean(report.case.clinical_history[:HISTORY_MOST])),
            (GROSS, clean(report.gross_description)),
        ],
        codes=[report.diagnosis_code] if report.diagnosis_code else [],
    )


def report_words_write(reports: list[Report]) -> int:
    """Write the words of these current reports; returns how many. Safe to call again."""
    rows = []
    for report in reports:
        read = reading_of(report)
        rows.append(
            (
                report.pk,
                report.case.department_id,
                *(read.affirmed.get(weight, "") for weight in WEIGHTS),
                *(read.denied.get(weight, "") for weight in WEIGHTS),
                timezone.now(),
            )
        )
    with transaction.atomic():
        # Locked in one order: a newer version that is saved meanwhile waits, or has won.
        current = set(
            Report.objects.select_for_update(no_key=True)
            .filter(pk__in=[report.pk for report in reports], is_current=True)
            .order_by("pk")
            .values_list("pk", flat=True)
        )
        rows = [row for row in rows if row[0] in current]
        if rows:
            with connection.cursor() as cursor:
                cursor.executemany(_UPSERT, rows)
            cases = [report.case_id for report in reports if report.pk in current]
            ReportWords.objects.filter(report__case__in=cases, report__is_current=False).delete()
    return len(rows)


def _unread() -> QuerySet[Report]:
    """Return current reports without words, or read by older rules."""
    return Report.objects.filter(is_current=True).filter(
        Q(words__isnull=True) | Q(words__reading_version__lt=READING_VERSION)
    )


def _changed() -> QuerySet[Report]:
    """Return current reports whose case, and perhaps its history, changed after their reading."""
    return Report.objects.filter(
        is_current=True,
        case__updated_at__gte=timezone.now() - _RECENT,
        case__updated_at__gt=F("words__updated_at"),
    )


def _batches(reports: QuerySet[Report], size: int) -> Iterator[list[Report]]:
    last: UUID | None = None
    while True:
        rows = reports.select_related("case").defer("search_vector").order_by("pk")
        batch = list((rows.filter(pk__gt=last) if last else rows)[:size])
        if not batch:
            return
        yield batch
        last = batch[-1].pk


def report_words_sweep(*, most: int | None = SWEEP_MOST, batch: int = BATCH) -> int:
    """Read the reports that need it, in batches of a transaction each; returns how many.

    most: stop after so many; None: go on until none is left.
    """
    done = 0
    for reports in (_unread(), _changed()):
        for rows in _batches(reports, batch):
            done += report_words_write(rows)
            if most is not None and done >= most:
                return done
    return done
