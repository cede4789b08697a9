"""`manage.py settings_table`: print the documentation's table of settings."""

from typing import Any

from django.core.management.base import BaseCommand

from pathsearch_site.settings import (
    development,  # noqa: F401  (declares its settings)
    env,
    production,  # noqa: F401  (declares its settings)
)

# Read before Django's settings, by the Makefile and the supervisor.
OUTSIDE = [
    env.Setting("PYTHON", "python3.11", "Interpreter that `make` builds the environment with"),
    env.Setting("TORCH", "cpu", "Build of torch that `make` installs: cpu or cuda"),
    env.Setting(
        "DJANGO_SETTINGS_MODULE",
        "pathsearch_site.settings.development",
        "Settings module; a server uses `pathsearch_site.settings.production`",
    ),
    env.Setting("PATHSEARCH_HOST", "127.0.0.1", "Address that `make run` listens on"),
    env.Setting("PATHSEARCH_PORT", "8000", "Port that `make run` listens on"),
    env.Setting("PATHSEARCH_DICOM_SCP", "false", "Start the DICOM receiver with `make run`"),
    env.Setting(
        "PATHSEARCH_WATCH_FOLDERS",
        "",
        "JSON file of the folders that `make run` watches; empty: none",
    ),
    env.Setting("PATHSEARCH_WEB_WORKERS", "2", "Web processes of `make run`"),
    env.Setting("PATHSEARCH_DEMO", "true", "Whether `make run` makes the demo archive"),
]


def settings_table() -> str:
    """Return the table as Markdown, one row a variable."""
    rows = ["| variable | default | what it sets |", "| --- | --- | --- |"]
    settings = [*OUTSIDE, *sorted(env.REGISTRY.values(), key=lambda setting: setting.name)]
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else ""
        rows.append(f"| `{setting.name}` | {default} | {setting.help} |")
    return "\n".join(rows)


class Command(BaseCommand):
    help = "Print every setting with its default, as the table of docs/settings.md"

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(settings_table())
