"""A crash of the machine leaves a log that takes Postgres longer to read than it is given."""

import subprocess

import pytest

from pathsearch_site import embedded_postgres


class Recovering:
    """The package, while its server reads the log: it gives up, then finds it not ready."""

    def __init__(self, answers):
        self.answers = list(answers)

    def get_server(self, folder, cleanup_mode):
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded_postgres.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(embedded_postgres, "data_dir", lambda: tmp_path)


def test_a_server_that_recovers_is_waited_for():
    package = Recovering([subprocess.TimeoutExpired("pg_ctl", 10), AssertionError(), "ready"])
    with pytest.warns(UserWarning, match="recovers from a crash"):
        assert embedded_postgres._started(package, None) == "ready"
    assert package.answers == []


def test_a_server_that_never_comes_is_an_error(monkeypatch):
    monkeypatch.setattr(embedded_postgres, "RECOVERY_MOST_SECONDS", -1)
    with pytest.raises(subprocess.TimeoutExpired):
        embedded_postgres._started(Recovering([subprocess.TimeoutExpired("pg_ctl", 10)]), None)
