"""Sends a file of any size in constant memory, under ASGI too."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from django.http import FileResponse

CHUNK_BYTES = 1 << 20


class DiskResponse(FileResponse):
    """A file as an attachment.

    Under ASGI Django would read a plain FileResponse to its end before it sends a byte; this
    one is read piece by piece in a thread.
    """

    block_size = CHUNK_BYTES

    def __init__(self, path: Path, *, filename: str, **options: Any) -> None:
        super().__init__(path.open("rb"), as_attachment=True, filename=filename, **options)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self.streaming_content)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
