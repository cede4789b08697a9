"""One attacked site for the whole suite, and the figures that it prints at its end."""

from collections.abc import Iterator

import pytest

from tests.attacks.site import AttackedSite

FIGURES: dict[str, object] = {}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedSite]:
    """Return the running site."""
    site = AttackedSite(tmp_path_factory.mktemp("attacked"))
    try:
        site.start()
        yield site
    finally:
        site.end()


@pytest.fixture(scope="session")
def figures() -> dict[str, object]:
    """Return what the suite counts; printed at the end of the run."""
    return FIGURES


def pytest_terminal_summary(terminalreporter) -> None:
    if FIGURES:
        terminalreporter.section("attacks")
        for name, value in FIGURES.items():
            terminalreporter.write_line(f"{name}: {value}")
