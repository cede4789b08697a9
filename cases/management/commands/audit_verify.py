"""`manage.py audit_verify`: shows whether any access event was changed, removed or slipped in."""

from time import perf_counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.services.audit_chain import audit_verify


class Command(BaseCommand):
    help = (
        "Compute the hash of every access event anew and compare the chain. Prints its head: "
        "note it somewhere else, and give it back with --anchor to show that no one wrote the "
        "chain anew since."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--anchor",
            action="append",
            default=[],
            metavar="SEQ:DIGEST",
            help="A head that was printed earlier; may be repeated",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        started = perf_counter()
        result = audit_verify(
            anchors=dict(_anchor(text) for text in options["anchor"]),
            progress=lambda count: self.stderr.write(f"{count} events …"),
        )
        seconds = perf_counter() - started
        for finding in result.findings:
            self.stdout.write(finding)
        self.stdout.write(
            f"{result.links} events in {seconds:.1f} s ({result.links / seconds:.0f}/s), "
            f"{result.retired} of them retired; head {result.head}"
        )
        if not result.is_whole:
            raise CommandError("The audit was tampered with.")


def _anchor(text: str) -> tuple[int, str]:
    seq, _, digest = text.partition(":")
    if not seq.isdigit() or len(digest) != 64:
        raise CommandError(f"{text!r} is no head of the chain: SEQ:DIGEST, as printed.")
    return int(seq), digest.lower()
