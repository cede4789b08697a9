"""Shared fixtures: the real slides where they are, an audit that tests may empty, watched logs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db.backends.postgresql.operations import DatabaseOperations

from cases.row_scope import process_acts_for_system
from tests.log_watch import LogWatch

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real slides, or skip with its name."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real slides at {SHARED_DATA}")
    return SHARED_DATA


# The database is made and dropped by its owner; what tests do outside of requests is done for the
# site, as by a command.
process_acts_for_system(as_owner=True)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup):
    process_acts_for_system()
    yield
    process_acts_for_system(as_owner=True)


@pytest.fixture(autouse=True, scope="session")
def emptied_between_tests():
    """Let the emptying of all tables between tests past the triggers that guard the audit."""
    flush = DatabaseOperations.execute_sql_flush

    def past_triggers(operations, statements):
        as_owner = ["SET LOCAL ROLE NONE", "SET LOCAL session_replication_role = replica"]
        return flush(operations, [*as_owner, *statements])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", past_triggers)
        yield


@pytest.fixture(autouse=True, scope="session")
def log_watch() -> Iterator[LogWatch]:
    """Watch the logs of the whole run for patients."""
    watch = LogWatch()
    watch.start()
    yield watch
    watch.stop()


@pytest.fixture(autouse=True)
def no_patient_is_logged(log_watch: LogWatch) -> Iterator[None]:
    """Fail the test in which a patient's name, MRN or accession number was logged."""
    yield
    found, log_watch.found = log_watch.found, []
    assert not found, "\n".join(found)
