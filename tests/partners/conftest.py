"""A live server on loopback with slides in it, for partners that read over DICOMweb."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from django.db import connections

from cases.dicomweb.frame_door import FrameDoor
from cases.models import SlideImage
from cases.permissions import Role
from cases.services import tokens
from pathsearch_site.asgi import application
from tests.cases.intake.conftest import data_dir, deliver, department, technician  # noqa: F401
from tests.factories import make_member


@dataclass
class ReadingSite:
    """Where it answers, the token that reads, and how a slide gets in."""

    port: int
    key: str
    user: Any
    take_in: Callable[[Path], SlideImage] = field(repr=False)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the DICOMweb root."""
        return f"{self.origin}/dicomweb"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


class _Server(threading.Thread):
    """The site's own ASGI application, served by uvicorn in this process and its database."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.server = uvicorn.Server(
            uvicorn.Config("", port=0, lifespan="off", log_level="warning", host="127.0.0.1")
        )

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        door = FrameDoor(application.app, connections=2)
        self.server.config.app = door
        await self.server.serve()
        if door._pool is not None:
            await door._pool.close()

    def wait(self) -> int:
        """Return the port, once it listens."""
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert self.is_alive() and time.monotonic() < deadline
            time.sleep(0.02)
        return self.server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self.server.should_exit = True
        self.join(60)
        connections.close_all()


@pytest.fixture
def reading_site(transactional_db, deliver, department, settings) -> Iterator[ReadingSite]:  # noqa: F811
    """Return a running site whose pathologist's token reads DICOMweb."""
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    user = make_member(department, Role.PATHOLOGIST)
    _token, key = tokens.token_create(user=user, name="partner", scopes=["dicomweb:read"])

    def take_in(path: Path) -> SlideImage:
        form = {} if path.is_dir() else {"accession_number": "S26-1", "mrn": "M1"}
        item = deliver(path, **form).items.get()
        assert item.slide_image is not None, item.reason
        wanted = SlideImage.objects.select_related("slide__case__patient", "slide__specimen")
        return wanted.get(pk=item.slide_image_id)

    server = _Server()
    server.start()
    try:
        yield ReadingSite(server.wait(), key, user, take_in)
    finally:
        server.stop()
