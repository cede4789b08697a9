"""Build the search indexes anew beside running searches."""

import time
from typing import Any

from django.core.management.base import BaseCommand

from retrieval.services.index_rebuild import search_index_rebuild, search_indexes


class Command(BaseCommand):
    help = (
        "Build the indexes that searches go through anew, one after the other. Searches and "
        "indexing go on meanwhile; killed, it leaves the old index in use."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        for name in search_indexes():
            started = time.monotonic()
            search_index_rebuild(name=name)
            self.stdout.write(f"{name}  rebuilt in {time.monotonic() - started:.1f} s")
