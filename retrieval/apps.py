"""Configuration of the retrieval app."""

from pathlib import Path

from django.apps import AppConfig


class RetrievalConfig(AppConfig):
    name = "retrieval"
    verbose_name = "Retrieval"

    def ready(self) -> None:
        from django.conf import settings

        from retrieval import receivers, row_security  # noqa: F401  (the first connects signals)
        from retrieval.engine.encoders.files import set_models_folder

        row_security.declare()
        set_models_folder(Path(settings.MODELS_DIR or settings.DATA_DIR / "models"))
