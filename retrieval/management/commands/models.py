"""manage.py models: list embedding models, re-embed by one, switch searches to one, retire one."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from cases.services.audit import Channel, origin_set
from retrieval.models import EmbeddingModel
from retrieval.services.switching import (
    model_activate,
    model_coverage,
    model_reembed,
    model_reembed_here,
    model_retire,
)


class Command(BaseCommand):
    help = (
        "Embedding models. list: all with their coverage. reembed NAME: let a model catch up "
        "with the archive in the background, from the features that are kept. activate NAME: "
        "switch searches to it, and back again. retire NAME: index new slides by it no longer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "act", nargs="?", default="list", choices=["list", "reembed", "activate", "retire"]
        )
        parser.add_argument("name", nargs="?", default="")
        parser.add_argument(
            "--now", action="store_true", help="reembed: work here too, not only by the workers"
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="activate: even though slides that are not embedded yet drop out of searches",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        origin_set(channel=Channel.COMMAND)
        try:
            self._act(options)
        except DomainError as error:
            raise CommandError(error.message) from error

    def _act(self, options: dict[str, Any]) -> None:
        if options["act"] == "list":
            for model in EmbeddingModel.objects.all():
                self.stdout.write(self._line(model))
            return
        model = EmbeddingModel.objects.filter(name=options["name"]).first()
        if model is None:
            raise CommandError("Name one of the models that manage.py models list shows.")
        if options["act"] == "reembed":
            waiting = model_reembed(model=model)
            self.stdout.write(f"{waiting} slides wait to be embedded by {model.name}")
            if options["now"]:
                model_reembed_here(model=model, tell=self._bar)
        elif options["act"] == "activate":
            model_activate(model=model, force=options["force"])
        else:
            model_retire(model=model)
        model.refresh_from_db()
        self.stdout.write(self._line(model))

    def _bar(self, done: int, total: int) -> None:
        if total:
            sys.stderr.write(f"\r{done} of {total} slides" + ("\n" if done == total else ""))
            sys.stderr.flush()

    def _line(self, model: EmbeddingModel) -> str:
        coverage = model_coverage(model)
        state = "active" if model.is_active else "kept current" if model.is_kept_current else "-"
        what = "slides" if model.modality == EmbeddingModel.Modality.IMAGE else "reports"
        parts = [f"{coverage.covered} of {coverage.wanted} {what} ({coverage.percent} %)"]
        for count, word in (
            (coverage.waiting, "waiting"),
            (coverage.failed, "failed"),
            (coverage.skipped, "not indexed"),
        ):
            if count:
                parts.append(f"{count} {word}")
        kind = f"{model.encoder} + {model.aggregator}"
        return f"{model.name}  [{model.modality}]  {state}  {kind}, {', '.join(parts)}"
