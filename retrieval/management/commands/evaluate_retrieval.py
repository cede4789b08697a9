"""manage.py evaluate_retrieval: measure searches on this archive."""

from pathlib import Path
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from cases.models import Cohort
from cases.services.audit import Channel, origin_set
from retrieval.engine.tables import retrieval_table
from retrieval.models import EmbeddingModel
from retrieval.services.evaluating import PATCHES, ROUNDS, evaluate_site
from retrieval.services.evaluation_data import BY_DIAGNOSIS, BY_WORDS
from retrieval.services.models import Modality, active_model


class Command(BaseCommand):
    help = (
        "Measure how well slides of this archive find others of the same diagnosis, by the "
        "active model and by rivals on the same kept features. Only what the named user may "
        "see takes part. Writes evaluation.html and evaluation.json: an export, on record."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", required=True, help="Whose rights are used")
        parser.add_argument("--out", type=Path, required=True, help="Folder of the two files")
        parser.add_argument("--cohort", default="", help="Name or id; default: all visible slides")
        parser.add_argument("--model", default="", help="Name; default: the active one")
        parser.add_argument(
            "--labels",
            choices=[BY_DIAGNOSIS, BY_WORDS],
            default=BY_DIAGNOSIS,
            help="The signed diagnosis, or site and kind by the report's words",
        )
        parser.add_argument(
            "--patches", type=int, default=PATCHES, help="Of a slide, for the rivals"
        )
        parser.add_argument("--rounds", type=int, default=ROUNDS, help="Of the bootstrap")
        parser.add_argument(
            "--no-rivals", action="store_true", help="Only the model and the plain mean"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        origin_set(channel=Channel.COMMAND)
        user = get_user_model().objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}.")
        if options["patches"] < 1 or options["rounds"] < 1:
            raise CommandError("--patches and --rounds must be at least 1.")
        try:
            report = evaluate_site(
                user=user,
                model=self._model(options["model"]),
                text_model=EmbeddingModel.objects.filter(
                    modality=Modality.TEXT, is_active=True
                ).first(),
                cohort=self._cohort(user, options["cohort"]),
                folder=options["out"],
                labels=options["labels"],
                patches=options["patches"],
                rounds=options["rounds"],
                with_rivals=not options["no_rivals"],
                tell=self.stderr.write,
            )
        except DomainError as error:
            raise CommandError(str(error.message)) from error
        except PermissionDenied as error:
            raise CommandError(str(error)) from error
        for note in report.notes:
            self.stdout.write(note)
        for section in report.sections:
            self.stdout.write(f"\n{section.title}: {section.queries} queries\n")
            self.stdout.write(
                retrieval_table([(m.name, m.figures, m.intervals) for m in section.methods])
            )
        self.stdout.write(f"Report: {options['out'] / 'evaluation.html'}")

    def _model(self, name: str) -> EmbeddingModel:
        if not name:
            return active_model(Modality.IMAGE)
        model = EmbeddingModel.objects.filter(modality=Modality.IMAGE, name=name).first()
        if model is None:
            known = EmbeddingModel.objects.filter(modality=Modality.IMAGE).values_list(
                "name", flat=True
            )
            raise CommandError(f"There is no image model {name!r}; there are: {', '.join(known)}.")
        return model

    def _cohort(self, user: Any, named: str) -> Cohort | None:
        if not named:
            return None
        visible = Cohort.objects.visible_to(user)
        try:
            found = list(visible.filter(pk=UUID(named)))
        except ValueError:
            found = list(visible.filter(name=named))
        if len(found) > 1:
            raise CommandError(f"Several cohorts are named {named!r}; give the id of one.")
        if not found:
            raise CommandError(f"{user.get_username()} sees no cohort {named!r}.")
        return found[0]
