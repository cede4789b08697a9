#!/usr/bin/env python
"""Django's command line; starts the embedded Postgres when no DATABASE_URL is set."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.development")
    from django.core.management import execute_from_command_line

    from pathsearch_site.embedded_postgres import ensure_database_url

    ensure_database_url()
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
