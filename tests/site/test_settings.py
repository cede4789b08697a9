"""Every setting is in the table of the docs, and bad values are named."""

from pathlib import Path

import pytest

from pathsearch_site.management.commands.settings_table import settings_table
from pathsearch_site.settings import env

ROOT = Path(__file__).resolve().parents[2]


def test_the_docs_hold_the_table_of_all_settings():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert settings_table() in page, "paste the output of `manage.py settings_table`"


def test_a_value_that_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setattr(env, "REGISTRY", {})
    monkeypatch.setenv("PATHSEARCH_X", "many")
    for read, default in ((env.integer, 1), (env.number, 1.0), (env.boolean, True)):
        with pytest.raises(env.SettingError, match="PATHSEARCH_X"):
            read("PATHSEARCH_X", default, "")


def test_a_secret_can_come_from_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr(env, "REGISTRY", {})
    (tmp_path / "secret").write_text("hidden\n")
    monkeypatch.setenv("PATHSEARCH_X_FILE", str(tmp_path / "secret"))
    assert env.string("PATHSEARCH_X", "", "") == "hidden"
