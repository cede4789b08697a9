"""The rules that keep the rooms apart, as checks."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("pathsearch_site", "cases", "retrieval")


def source_files() -> list[Path]:
    """Return the Python files that people write."""
    return [
        file
        for room in (*ROOMS, "tests", "benchmarks")
        for file in sorted((ROOT / room).rglob("*.py"))
        if "migrations" not in file.parts
    ]


def test_no_file_has_grown_past_400_lines():
    long = {
        str(file.relative_to(ROOT)): count
        for file in source_files()
        if (count := len(file.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


@pytest.mark.parametrize("module", ["cases.wsi", "cases.dicomweb.wire", "retrieval.engine"])
def test_a_pure_room_imports_without_django(module):
    files = sorted((ROOT / module.replace(".", "/")).glob("*.py"))
    names = [f"{module}.{file.stem}" for file in files if file.stem != "__init__"]
    assert names
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "bad = {'django', 'rest_framework', 'django_q', 'pgvector'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_web_starts_without_torch():
    code = (
        "import os, sys\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'pathsearch_site.settings.development'\n"
        "import pathsearch_site.asgi\n"
        "from django.urls import get_resolver\n"
        "get_resolver().url_patterns\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_retrieval_is_unknown_to_cases():
    hits = [
        str(file.relative_to(ROOT))
        for file in (ROOT / "cases").rglob("*.py")
        if "retrieval" in file.read_text(encoding="utf-8") and "migrations" not in file.parts
    ]
    assert hits == []
