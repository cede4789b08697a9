"""`manage.py audit_export`: the access events of a time, for a SIEM or an auditor."""

from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from cases.services.audit import Action, Channel, access_event_record, origin_set
from cases.services.audit_export import events_exported


class Command(BaseCommand):
    help = "Print access events, one JSON object a line, oldest first. The export is an event."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=["jsonl", "fhir"], default="jsonl")
        parser.add_argument("--since", type=_time, help="Date or time, included")
        parser.add_argument("--until", type=_time, help="Date or time, not included")

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = options["since"], options["until"]
        origin_set(channel=Channel.COMMAND)
        access_event_record(
            user=None,
            action=Action.EXPORT,
            detail={
                "audit": options["format"],
                "since": since.isoformat() if since else "",
                "until": until.isoformat() if until else "",
            },
        )
        for line in events_exported(form=options["format"], since=since, until=until):
            self.stdout.write(line)


def _time(text: str) -> datetime:
    try:
        time = parse_datetime(text)
        day = parse_date(text) if time is None else None
    except ValueError as error:
        raise CommandError(f"{text!r}: {error}") from error
    if time is None and day is not None:
        time = datetime(day.year, day.month, day.day)
    if time is None:
        raise CommandError(f"{text!r} is neither a date (2026-11-25) nor a time.")
    return timezone.make_aware(time) if timezone.is_naive(time) else time
