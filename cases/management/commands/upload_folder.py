"""Take a folder of slides of this machine into a department's archive."""

import argparse
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError

from cases.errors import DomainError
from cases.models import Department, SlideUpload
from cases.services.processing import upload_process
from cases.services.uploads import FORM_FIELDS, upload_local_folder


class Command(BaseCommand):
    help = "Upload a folder, or one file, as a user of a department."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument("--user", required=True, help="user name")
        parser.add_argument("--department", required=True, help="the department's code")
        parser.add_argument(
            "--process", action="store_true", help="process it now instead of queueing it"
        )
        for name in FORM_FIELDS:
            parser.add_argument(f"--{name.replace('_', '-')}", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["folder"].exists():
            raise CommandError(f"There is no {options['folder']}.")
        user = get_user_model().objects.filter(username=options["user"], is_active=True).first()
        department = Department.objects.filter(code=options["department"]).first()
        if user is None or department is None:
            raise CommandError("There is no such user or department.")
        try:
            upload = upload_local_folder(
                user=user,
                department=department,
                folder=options["folder"],
                source=SlideUpload.Source.COMMAND,
                **{name: options[name] for name in FORM_FIELDS},
            )
        except PermissionDenied as error:
            raise CommandError("This user may not upload for this department.") from error
        except DomainError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        self.stdout.write(f"upload {upload.pk}")
        if options["process"]:
            upload_process(upload.pk)
            self._report(upload)

    def _report(self, upload: SlideUpload) -> None:
        upload.refresh_from_db()
        for item in upload.items.all():
            self.stdout.write(f"{item.state}\t{item.reason_code}\t{item.name}")
        if upload.state != SlideUpload.State.FINISHED:
            raise CommandError(f"{upload.state}: {upload.reason_code} {upload.reason}")
