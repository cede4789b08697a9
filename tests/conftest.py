"""Shared fixtures: the real slides where they are, and an audit that tests may empty."""

from pathlib import Path

import pytest
from django.db.backends.postgresql.operations import DatabaseOperations

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real slides, or skip with its name."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real slides at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(autouse=True, scope="session")
def emptied_between_tests():
    """Let the emptying of all tables between tests past the triggers that guard the audit."""
    flush = DatabaseOperations.execute_sql_flush

    def past_triggers(operations, statements):
        return flush(operations, ["SET LOCAL session_replication_role = replica", *statements])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", past_triggers)
        yield
