"""manage.py encoder_server: the process that encodes queries."""

import signal
import threading
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from retrieval.encoder_server import EncoderServer, EncoderService
from retrieval.models import EmbeddingModel
from retrieval.services.encoders import runtime_arguments


class Command(BaseCommand):
    help = "Serve the encoders to the web processes, on the Unix socket PATHSEARCH_ENCODER_SOCKET."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--socket", default="", help="Path; default: PATHSEARCH_ENCODER_SOCKET")
        parser.add_argument(
            "--preload", action="store_true", help="Load the active models before the first request"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["socket"] or settings.ENCODER_SOCKET
        if not path:
            raise CommandError("Name a socket: --socket, or PATHSEARCH_ENCODER_SOCKET.")
        service = EncoderService(*runtime_arguments())
        server = EncoderServer(Path(path), service)
        if options["preload"]:
            names = dict(
                EmbeddingModel.objects.filter(is_active=True).values_list("modality", "encoder")
            )
            threading.Thread(
                target=service.preload,
                args=(names.get("image"), names.get("text")),
                daemon=True,
            ).start()

        def stop(*_signal: object) -> None:
            # shutdown() waits for the loop below, so not in its own thread.
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        self.stdout.write(f"encoder server at {path}")
        try:
            server.serve_forever()
        finally:
            server.server_close()
