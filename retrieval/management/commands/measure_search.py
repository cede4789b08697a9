"""Measure what exact scans and the index cost on this site."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from retrieval.models import EmbeddingModel
from retrieval.services.models import Modality
from retrieval.services.search_costs import search_costs_measure


class Command(BaseCommand):
    help = "Measure the two ways to search and keep the figures; run it while the site is quiet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--questions", type=int, default=10, help="slides that ask")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["questions"] < 1:
            raise CommandError("At least one question is needed.")
        model = EmbeddingModel.objects.filter(modality=Modality.IMAGE, is_active=True).first()
        if model is None:
            raise CommandError("No image model is active.")
        try:
            row = search_costs_measure(model=model, questions=options["questions"])
        except DomainError as error:
            raise CommandError(error.message) from error
        widths = ", ".join(f"{n} answers: {ef}" for n, ef in row.ef_search.items())
        self.stdout.write(
            f"{model.name}, {row.slides} slides: exact {row.exact_us:.2f} us a row, index"
            f" {row.walk_us:.0f} us and {row.visit_us:.1f} us a candidate; ef_search for {widths}"
        )
