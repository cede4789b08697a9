"""`manage.py create_token`: a key for a machine, shown once."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from cases.models import ApiToken, Department
from cases.services.audit import Channel, origin_set
from cases.services.tokens import token_create


class Command(BaseCommand):
    help = "Make an API token and print its key. The key is not kept and cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "username", help="Whose rights the token has; a user of its own is best"
        )
        parser.add_argument("--name", required=True, help="What the token is for: 'LIS interface'")
        parser.add_argument(
            "--scope",
            action="append",
            required=True,
            choices=ApiToken.Scope.values,
            help="May be repeated",
        )
        parser.add_argument(
            "--department",
            action="append",
            default=[],
            metavar="CODE",
            help="Narrow the token to these departments; may be repeated. None: all of the user's",
        )
        parser.add_argument(
            "--address",
            action="append",
            default=[],
            metavar="NETWORK",
            help="Let only this address or network (10.1.2.0/24) use it; may be repeated",
        )
        parser.add_argument("--days", type=int, default=365, help="Days until it expires")

    def handle(self, *args: Any, **options: Any) -> None:
        origin_set(channel=Channel.COMMAND)
        user = get_user_model().objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        if options["days"] < 1:
            raise CommandError("--days must be at least 1.")
        try:
            token, key = token_create(
                user=user,
                name=options["name"],
                scopes=options["scope"],
                departments=self._departments(user, options["department"]),
                addresses=options["address"],
                expires_at=timezone.now() + timedelta(days=options["days"]),
            )
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        self.stderr.write(
            f"Token {token.prefix} of {user.get_username()} expires on "
            f"{token.expires_at:%Y-%m-%d}. Its key is shown only now:"
        )
        self.stdout.write(key)

    def _departments(self, user: Any, codes: list[str]) -> list[Department]:
        found = list(Department.objects.visible_to(user).filter(code__in=codes))
        missing = sorted(set(codes) - {department.code for department in found})
        if missing:
            raise CommandError(f"{user.get_username()} is no member of {', '.join(missing)}.")
        return found
