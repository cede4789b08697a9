#!/usr/bin/env python
"""Django's command line; starts the embedded Postgres when no DATABASE_URL is set."""

import os
import sys

# These change the schema, or look at it before it is whole.
OWNERS = {
    "flush",
    "makemigrations",
    "migrate",
    "optimizemigration",
    "row_security",
    "showmigrations",
    "sqlmigrate",
    "squashmigrations",
    "test",
}


def _say_for_whom() -> None:
    """Let commands, and the workers that are commands, act for the site; web requests never."""
    from cases.row_scope import process_acts_for_system

    command = next(iter(sys.argv[1:]), "")
    if command != "runserver":
        process_acts_for_system(as_owner=command in OWNERS)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.development")
    from django.core.management import execute_from_command_line

    from pathsearch_site.embedded_postgres import ensure_database_url

    ensure_database_url()
    _say_for_whom()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
