"""`manage.py row_security`: shows whether the second lock is shut, table by table."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from cases.row_scope import APP_ROLE
from cases.row_security import LEAKPROOF, POLICIES, WITHOUT_POLICY, install


class Command(BaseCommand):
    help = (
        "Put the policies of row security in order and show them. Ends with an error where a "
        "table with patient data is open. Run it as the owner of the tables."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--leakproof",
            action="store_true",
            help="Print what a superuser runs so that searches use their indexes, and end",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["leakproof"]:
            for function in LEAKPROOF:
                self.stdout.write(f"ALTER FUNCTION {function} LEAKPROOF;")
            return
        if install(connection):
            self.stdout.write("The policies were brought up to what this version declares.")
        wrong = []
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT relname, relrowsecurity AND relforcerowsecurity, EXISTS (SELECT 1"
                " FROM pg_policy WHERE polrelid = pg_class.oid AND polname = 'pathsearch')"
                " FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            )
            found = {table: (forced, rule) for table, forced, rule in cursor.fetchall()}
            for table in sorted(POLICIES):
                is_shut = found.get(table) == (True, True)
                self.stdout.write(f"{'locked' if is_shut else 'OPEN':<8}{table}")
                wrong += [] if is_shut else [table]
            for table, reason in sorted(WITHOUT_POLICY.items()):
                self.stdout.write(f"{'none':<8}{table}: {reason}")
            cursor.execute(
                "SELECT session_user::text, rolsuper OR rolbypassrls FROM pg_roles"
                " WHERE rolname = session_user"
            )
            login, bypasses = cursor.fetchone()
            cursor.execute(
                "SELECT count(*) FROM unnest(%s::text[]) AS one(f) JOIN pg_proc"
                " ON pg_proc.oid = to_regprocedure(one.f) WHERE proleakproof",
                [list(LEAKPROOF)],
            )
            marked = cursor.fetchone()[0]
        role = APP_ROLE if settings.ROW_SECURITY else f"{login} (PATHSEARCH_ROW_SECURITY is off)"
        self.stdout.write(f"Requests and workers act as {role}, signed in as {login}.")
        if bypasses and not settings.ROW_SECURITY:
            wrong.append(f"{login} passes all policies")
        self.stdout.write(
            f"{marked} of {len(LEAKPROOF)} search functions may use an index before a policy."
        )
        if wrong:
            raise CommandError(f"Not locked: {', '.join(wrong)}")
