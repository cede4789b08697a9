"""Configuration of the site itself: its checks."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "pathsearch_site"

    def ready(self) -> None:
        from pathsearch_site import checks  # noqa: F401  (registers the checks)
