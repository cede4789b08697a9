"""Receive slides from DICOM nodes: C-ECHO, C-STORE, storage commitment."""

import logging
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from cases.dimse.scp import Scp, limit_memory


class Command(BaseCommand):
    help = "Listen for DICOM associations of the peers in the administration, until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # its lines quote headers
        limit_memory(settings.DICOM_MEMORY_BYTES)
        scp = Scp()
        try:
            scp.start()
        except OSError as error:
            raise CommandError(f"Cannot listen: {error.strerror or error}") from error
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_signal: stop.set())
        self.stdout.write(f"{settings.DICOM_AE_TITLE} listens on port {scp.port}")
        self.stdout.flush()
        stop.wait()
        scp.stop()
