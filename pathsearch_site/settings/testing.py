"""Settings for the tests: fast hashing, tasks run when a test says so, a folder of their own."""

# The embedded server must be up, and its address known, before the base settings are read.
# ruff: noqa: E402

import os
import tempfile
from pathlib import Path

# A data folder of this run alone; child processes of live tests inherit it.
os.environ.setdefault("PATHSEARCH_TEST_DATA_DIR", tempfile.mkdtemp(prefix="pathsearch-test-"))
# pytest-xdist's workers inherit the variable: each takes a folder in it. Their children, which
# inherit this too, keep what they are given.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker and os.environ.get("PATHSEARCH_TEST_WORKER") != _worker:
    os.environ["PATHSEARCH_TEST_WORKER"] = _worker
    os.environ["PATHSEARCH_TEST_DATA_DIR"] += f"/{_worker}"
    Path(os.environ["PATHSEARCH_TEST_DATA_DIR"]).mkdir()

from pathsearch_site.embedded_postgres import ensure_database_url

ensure_database_url()

from pathsearch_site.settings.base import *  # noqa: F403
from pathsearch_site.settings.base import DATABASES

DATA_DIR = Path(os.environ["PATHSEARCH_TEST_DATA_DIR"])
STATIC_ROOT = DATA_DIR / "staticfiles"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
AXES_ENABLED = False
# The tests of one module turn it on; all of them with PATHSEARCH_TEST_ROW_SECURITY=1.
ROW_SECURITY = bool(os.environ.get("PATHSEARCH_TEST_ROW_SECURITY"))
DISK_RESERVE_BYTES = 0
DATABASES["default"]["TEST"] = {"NAME": "test_pathsearch" + os.environ.get("TEST_DB_SUFFIX", "")}
ENCODER_SOCKET = ""
ENCODER_DEVICE = "cpu"
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = True  # plain HTTP, on loopback alone
