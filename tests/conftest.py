"""Shared fixtures: the real slides where they are."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real slides, or skip with its name."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real slides at {SHARED_DATA}")
    return SHARED_DATA
