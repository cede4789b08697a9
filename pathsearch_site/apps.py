"""Configuration of the site itself: its checks."""

from typing import Any

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class SiteConfig(AppConfig):
    name = "pathsearch_site"

    def ready(self) -> None:
        from pathsearch_site import checks  # noqa: F401  (registers the checks)

        # The last app with tables: all of them are there then.
        post_migrate.connect(_policies_install, sender=apps.get_app_config("retrieval"))


def _policies_install(using: str, **_kwargs: Any) -> None:
    from django.db import connections

    from cases.row_scope import acting_as_owner
    from cases.row_security import install

    with acting_as_owner("policies belong to the owner of the tables"):
        install(connections[using])
