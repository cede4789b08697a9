"""`manage.py rotate_token`: a new key for a machine, while the old one still works for a while."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cases.errors import DomainError
from cases.models import ApiToken
from cases.services.audit import Channel, origin_set
from cases.services.tokens import token_rotate


class Command(BaseCommand):
    help = "Make a token with the rights of another, print its key, and let the old one end."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="The old token's prefix: ps_<prefix>_…")
        parser.add_argument("--hours", type=int, default=24, help="Hours that both keys work")
        parser.add_argument("--days", type=int, default=365, help="Days until the new one expires")

    def handle(self, *args: Any, **options: Any) -> None:
        origin_set(channel=Channel.COMMAND)
        token = ApiToken.objects.filter(prefix=options["prefix"]).first()
        if token is None:
            raise CommandError(f"There is no token {options['prefix']!r}.")
        if options["hours"] < 0 or options["days"] < 1:
            raise CommandError("--hours must not be negative, and --days at least 1.")
        try:
            made, key = token_rotate(
                token=token,
                user=token.user,
                overlap=timedelta(hours=options["hours"]),
                days=options["days"],
            )
        except DomainError as error:
            raise CommandError(error.message) from error
        self.stderr.write(
            f"Token {made.prefix} takes the place of {token.prefix}, which ends in "
            f"{options['hours']} hours at the latest. Its key is shown only now:"
        )
        self.stdout.write(key)
