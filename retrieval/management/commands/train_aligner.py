"""manage.py train_aligner: train a model on cohorts of this archive."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from cases.services.audit import Channel, origin_set
from retrieval.engine.errors import EngineError
from retrieval.engine.model_card import card_markdown
from retrieval.engine.progress import ProgressBar
from retrieval.models import TrainingRun
from retrieval.services.training import (
    TrainingRequest,
    training_retry,
    training_run,
    training_start,
    training_sweep,
)
from retrieval.services.training_data import LABELS

_REFERENCE = (
    ("dim", int, 192),
    ("tokens", int, 16),
    ("epochs", int, 20),
    ("steps", int, 40),
    ("batch", int, 64),
    ("chunk", int, 0),
    ("patches", int, 64),
    ("patience", int, 3),
    ("checkpoint_steps", int, 20),
)


class Command(BaseCommand):
    help = (
        "Train a model on cohorts that a user may use. The split, by hospital where there are "
        "several, is stored with the run. A killed run goes on when the command is given again "
        "with the same name. The result is a model that is not active yet: see manage.py models."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", default="", help="of the run and of its model")
        parser.add_argument("--list", action="store_true", help="show all runs and their states")
        parser.add_argument("--user", default="", help="on whose behalf; needed for a new run")
        parser.add_argument(
            "--cohort",
            action="append",
            default=[],
            help="id, name or department/name; several",
        )
        parser.add_argument(
            "--detach", action="store_true", help="go on in a process of its own; see --list"
        )
        parser.add_argument("--kind", choices=TrainingRun.Kind.values, default="aligner")
        parser.add_argument(
            "--labels",
            choices=list(LABELS),
            default="code",
            help="; ".join(f"{name}: {text}" for name, text in LABELS.items()),
        )
        parser.add_argument("--share", type=float, default=0.2, help="of the slides, held out")
        parser.add_argument("--least", type=int, default=3, help="patients that a label needs")
        parser.add_argument(
            "--slide-patches", type=int, default=1000, help="most patches of a slide"
        )
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--licence", default=TrainingRequest.licence, help="for the model card")
        parser.add_argument("--text-encoder", default="", help="reference: learn from reports too")
        parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
        parser.add_argument(
            "--processes", type=int, default=1, help="reference: by torchrun, one for each GPU"
        )
        for name, kind, default in _REFERENCE:
            flag = f"--{name.replace('_', '-')}"
            parser.add_argument(flag, type=kind, default=default, help="reference network")

    def handle(self, *args: Any, **options: Any) -> None:
        origin_set(channel=Channel.COMMAND)
        try:
            if options["list"]:
                self._list()
            else:
                self._train(options)
        except (DomainError, EngineError) as error:
            raise CommandError(error.message) from error

    def _list(self) -> None:
        training_sweep()
        for run in TrainingRun.objects.select_related("model"):
            progress = f" {run.progress_percent} %" if run.state == run.State.RUNNING else ""
            reason = f": {run.reason}" if run.reason else ""
            self.stdout.write(f"{run.name}  {run.kind}  {run.state}{progress}{reason}")

    def _train(self, options: dict[str, Any]) -> None:
        if not options["name"]:
            raise CommandError("Name the training, or give --list.")
        run = TrainingRun.objects.filter(name=options["name"]).first()
        if run is None:
            run = self._start(options)
        elif run.state == run.State.FAILED:
            training_retry(run=run)
        elif run.state == run.State.RUNNING:
            self._wait_for_lease(run)
        if options["detach"]:
            self._detach(run)
            return
        bar = ProgressBar(sys.stderr)
        bar.say(
            f"{run.name}: learning from {run.split['train']} slides, {run.split['held_out']} held "
            f"out by {run.split['by']}, {run.split['left_out']} left out"
        )
        state = training_run(run.pk, tell=bar.say, tick=bar.show)
        run.refresh_from_db()
        if state is None and run.state != run.State.DONE:
            raise CommandError("Another process works on this training.")
        if run.state == run.State.FAILED:
            raise CommandError(run.reason)
        self.stdout.write(card_markdown(run.card))
        self.stdout.write(
            f"The model {run.name} is registered. Next: manage.py models reembed {run.name}"
        )

    def _start(self, options: dict[str, Any]) -> TrainingRun:
        user = get_user_model().objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise CommandError("Name an active user by --user; what that user may see is used.")
        if not options["cohort"]:
            raise CommandError("Name at least one cohort by --cohort.")
        reference = {}
        if options["kind"] == TrainingRun.Kind.REFERENCE:
            reference = {name: options[name] for name, _, _ in _REFERENCE}
            reference["precision"] = options["precision"]
        return training_start(
            user=user,
            request=TrainingRequest(
                name=options["name"],
                cohorts=options["cohort"],
                kind=options["kind"],
                labels=options["labels"],
                share=options["share"],
                least=options["least"],
                patches=options["slide_patches"],
                seed=options["seed"],
                licence=options["licence"],
                text_encoder=options["text_encoder"],
                reference=reference,
                processes=options["processes"],
            ),
        )

    def _detach(self, run: TrainingRun) -> None:
        log = Path(settings.DATA_DIR) / "logs" / f"training-{run.pk}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, settings.BASE_DIR / "manage.py", "train_aligner", run.name],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.stdout.write(f"{run.name} is trained by process {process.pid}; its log: {log.name}")

    def _wait_for_lease(self, run: TrainingRun) -> None:
        """A killed process still holds its lease for a moment; a living one renews it."""
        held = run.lease_token
        while run.state == run.State.RUNNING and run.lease_token == held:
            before = run.lease_expires_at
            time.sleep(1)
            training_sweep()
            run.refresh_from_db()
            if run.lease_expires_at and before and run.lease_expires_at > before:
                raise CommandError("Another process works on this training.")
