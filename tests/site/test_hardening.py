"""The production settings as they are; what they do to answers is in tests/attacks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from cases.middleware import FILE_POLICY

ROOT = Path(__file__).resolve().parents[2]
_PRINTED = (
    "DEBUG",
    "CONTENT_SECURITY_POLICY",
    "SECURE_HSTS_SECONDS",
    "SECURE_HSTS_INCLUDE_SUBDOMAINS",
    "SECURE_REFERRER_POLICY",
    "SECURE_CONTENT_TYPE_NOSNIFF",
    "SESSION_COOKIE_NAME",
    "CSRF_COOKIE_NAME",
    "SESSION_COOKIE_SECURE",
    "CSRF_COOKIE_SECURE",
    "SESSION_COOKIE_HTTPONLY",
    "MESSAGE_STORAGE",
)


def production(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Python under the production settings, the secret in a file."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 25 + "abcdefghijklmnopqrstuvwxyz0123456789\n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PATHSEARCH_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            **inherited,
            "DJANGO_SETTINGS_MODULE": "pathsearch_site.settings.production",
            "PATHSEARCH_DATA_DIR": str(tmp_path),
            "PATHSEARCH_DISK_RESERVE_GB": "0",
            "PATHSEARCH_SECRET_KEY_FILE": str(secret),
        },
        capture_output=True,
        text=True,
    )


def test_djangos_deployment_checks_are_clean(tmp_path):
    done = production(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_the_settings_of_production(tmp_path):
    code = (
        "import json; from django.conf import settings as s; "
        f"print(json.dumps({{n: getattr(s, n) for n in {_PRINTED!r}}}))"
    )
    done = production(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    policy = said["CONTENT_SECURITY_POLICY"]["DIRECTIVES"]
    assert not any("unsafe" in word for words in policy.values() for word in words)
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert said["SECURE_HSTS_SECONDS"] >= 31_536_000
    assert said["SECURE_HSTS_INCLUDE_SUBDOMAINS"]
    assert said["SECURE_CONTENT_TYPE_NOSNIFF"]
    assert said["SECURE_REFERRER_POLICY"] == "same-origin"
    assert said["SESSION_COOKIE_NAME"].startswith("__Host-")
    assert said["CSRF_COOKIE_NAME"].startswith("__Host-")
    assert said["SESSION_COOKIE_SECURE"] and said["CSRF_COOKIE_SECURE"]
    assert said["SESSION_COOKIE_HTTPONLY"]
    assert not said["DEBUG"]
    assert said["MESSAGE_STORAGE"].endswith("SessionStorage")


@pytest.mark.django_db
def test_what_is_no_page_runs_nothing():
    for path in ("/api/v1/schema/", "/api/v1/cases/", "/healthz/"):
        answer = Client().get(path)
        assert answer["Content-Security-Policy"] == FILE_POLICY, path
    assert "script-src 'self'" in Client().get("/login/")["Content-Security-Policy"]


def test_the_asvs_table_has_every_item_and_its_files_are_there():
    page = (ROOT / "docs" / "asvs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d) \|.*\| `([^`]+)` \| `([^`]+)` \|", page, re.M)
    # The numbers and levels of version 5.0.0; its texts have their own licence.
    asked = (ROOT / "tests" / "data" / "asvs-5.0.0-items.txt").read_text().splitlines()
    levels = dict(line.split() for line in asked)
    answered = [item for item, *_rest in rows]
    apart = re.findall(r"\d+\.\d+\.\d+", page.split("## Without a counterpart")[1])
    assert sorted(set(answered + apart) & set(levels)) == sorted(levels)
    assert len(set(answered + apart)) == len(answered + apart)
    assert all(levels.get(item, "3") == level for item, level, *_files in rows)
    missing = [name for _item, _level, *names in rows for name in names]
    missing = [name for name in missing if not (ROOT / name).exists()]
    assert not missing
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|cases|retrieval|pathsearch_site)/[^`]+)`", security)
    assert [name for name in named if not (ROOT / name).exists()] == []
