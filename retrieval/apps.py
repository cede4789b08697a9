"""Configuration of the retrieval app."""

from django.apps import AppConfig


class RetrievalConfig(AppConfig):
    name = "retrieval"
    verbose_name = "Retrieval"

    def ready(self) -> None:
        from retrieval import receivers  # noqa: F401  (connects the signals)
