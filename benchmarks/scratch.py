"""A database of a benchmark's own: migrated, of another name, dropped at the end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def scratch_database(
    suffix: str = "_benchmark", *, keep: bool = False, with_pages: bool = False
) -> Iterator[None]:
    """Set Django up on a new database. keep: leave it; with_pages: a test client will ask."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.testing")
    os.environ.setdefault("TEST_DB_SUFFIX", suffix)
    import django

    django.setup()
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    if with_pages:
        setup_test_environment()
    made = setup_databases(verbosity=0, interactive=False, keepdb=False)
    try:
        yield
    finally:
        if not keep:
            teardown_databases(made, verbosity=0)
