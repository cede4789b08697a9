"""Configuration of the retrieval app."""

from pathlib import Path

from django.apps import AppConfig


class RetrievalConfig(AppConfig):
    name = "retrieval"
    verbose_name = "Retrieval"

    def ready(self) -> None:
        from django.conf import settings

        from cases import index_states
        from retrieval import kept_reasons, receivers, row_security  # noqa: F401  (signals)
        from retrieval.engine.encoders.files import set_models_folder
        from retrieval.models import SlideIndex
        from retrieval.selectors_indexing import slide_image_ids_in_state

        row_security.declare()
        kept_reasons.declare()
        index_states.use(SlideIndex.State.choices, slide_image_ids_in_state)
        set_models_folder(Path(settings.MODELS_DIR or settings.DATA_DIR / "models"))
