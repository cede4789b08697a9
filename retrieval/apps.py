"""Configuration of the retrieval app."""

from pathlib import Path

from django.apps import AppConfig


class RetrievalConfig(AppConfig):
    name = "retrieval"
    verbose_name = "Retrieval"

    def ready(self) -> None:
        from django.conf import settings

        from retrieval import receivers  # noqa: F401  (connects the signals)
        from retrieval import row_security
        from retrieval.engine.encoders.files import set_models_folder

        row_security.declare()
        set_models_folder(Path(settings.MODELS_DIR or settings.DATA_DIR / "models"))
