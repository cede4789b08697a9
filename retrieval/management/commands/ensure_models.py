"""manage.py ensure_models: the embedded default models and their indexes."""

from typing import Any

from django.core.management.base import BaseCommand

from retrieval.services.models import ensure_default_models


class Command(BaseCommand):
    help = "Make the default embedding models where they are missing; activate where none is."

    def handle(self, *args: Any, **options: Any) -> None:
        for model in ensure_default_models():
            state = "active" if model.is_active else "not active"
            self.stdout.write(f"{model.get_modality_display()}: {model.name} ({state})")
