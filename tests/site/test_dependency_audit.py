"""The audit of dependencies fails on a finding, and on nothing else."""

import subprocess

import pytest

from tests import dependency_audit


@pytest.mark.parametrize(
    ("output", "returned", "expected"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Name Version ID Fix Versions\ndjango 5.2 PYSEC-1 5.2.1", 1, 1),
        ("", 1, 0),  # the service failed
    ],
)
def test_what_it_returns(monkeypatch, output, returned, expected):
    done = subprocess.CompletedProcess([], returned, output, "no connection")
    monkeypatch.setattr(dependency_audit, "answers", lambda: True)
    monkeypatch.setattr(dependency_audit.subprocess, "run", lambda *_a, **_k: done)
    assert dependency_audit.main() == expected


def test_without_the_service_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(dependency_audit, "answers", lambda: False)
    assert dependency_audit.main() == 0
    assert "left out" in capsys.readouterr().out
