"""A PathSearch site and an Orthanc that hold the same slide, for benchmarks.dicomweb."""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import requests

from tests.partners.orthanc import Orthanc, running_orthanc

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Server:
    """Where one server answers, and what it wants to be sent along."""

    name: str
    host: str
    port: int
    root: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return the address of its DICOMweb root."""
        return f"http://{self.host}:{self.port}{self.root}"


@dataclass
class Pair:
    """Both servers and the UIDs of the slide that they hold.

    levels: (SOP instance UID, frames), finest first.
    """

    ours: Server
    theirs: Server
    orthanc: Orthanc
    data_dir: Path
    slide: Path
    study_uid: str = ""
    series_uid: str = ""
    levels: list[tuple[str, int]] = field(default_factory=list)
    described: dict = field(default_factory=dict)
    servers: dict = field(default_factory=dict)

    @property
    def series(self) -> str:
        """Return the series' address below a DICOMweb root."""
        return f"/studies/{self.study_uid}/series/{self.series_uid}"


@contextmanager
def pair(folder: Path, options: argparse.Namespace) -> Iterator[Pair]:
    """Start both, give them the slide, stop both."""
    data_dir = folder / "site"
    data_dir.mkdir()
    os.environ["PATHSEARCH_DATA_DIR"] = str(data_dir)
    os.environ["DJANGO_SETTINGS_MODULE"] = "pathsearch_site.settings.development"
    os.environ["PATHSEARCH_DISK_RESERVE_GB"] = "0"
    os.environ["PATHSEARCH_LOG_LEVEL"] = "WARNING"
    os.environ.pop("DATABASE_URL", None)
    from pathsearch_site import embedded_postgres

    embedded_postgres.ensure_database_url()
    try:
        slide = options.slide or _made_slide(folder / "slide", options)
        key = _site_with(slide)
        process, port = _serve(options.workers)
        try:
            with running_orthanc(folder) as orthanc:
                yield _pair(slide, data_dir, key, port, orthanc, options)
        finally:
            process.terminate()
            process.wait()
    finally:
        from django.db import connections

        connections.close_all()
        embedded_postgres.stop()


def _made_slide(folder: Path, options: argparse.Namespace) -> Path:
    from tests.synthetic_slide import picture, write_dicom_slide

    print(f"making a slide of {options.side} x {options.side} …", file=sys.stderr)
    return write_dicom_slide(folder, rgb=picture(options.side, options.side), levels=options.levels)


def _site_with(slide: Path) -> str:
    """Prepare the database, take the slide in; returns the key of a token that may do all."""
    import django

    django.setup()
    from django.core.management import call_command

    from cases.models import SlideUpload, UploadItem
    from cases.permissions import Role
    from cases.services import processing, tokens, uploads
    from tests.factories import DepartmentFactory, make_member

    call_command("migrate", verbosity=0)
    department = DepartmentFactory(code="bench")
    user = make_member(department, Role.PATHOLOGIST, username="bench")
    upload = uploads.upload_local_folder(
        user=user, department=department, folder=slide, source=SlideUpload.Source.COMMAND
    )
    processing.upload_process(upload.pk)
    item = UploadItem.objects.get(upload=upload)
    if item.state != UploadItem.State.ACCEPTED:
        raise SystemExit(f"the slide was not taken in: {item.reason}")
    scopes = ["dicomweb:read", "dicomweb:write"]
    return tokens.token_create(user=user, name="bench", scopes=scopes)[1]


def _serve(workers: int) -> tuple[subprocess.Popen, int]:
    """Return the web server, started as the supervisor does, and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "pathsearch_site.asgi:application"]
    command += ["--port", str(port), "--workers", str(workers), "--log-level", "warning"]
    command += ["--no-server-header", "--lifespan", "off"]
    environment = {**os.environ, "PATHSEARCH_DB_POOL": "16"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    while process.poll() is None:
        try:
            # Answered, not only listened: a worker imports for some seconds.
            requests.get(f"http://127.0.0.1:{port}/dicomweb/", timeout=60)
            return process, port
        except requests.RequestException:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def _pair(
    slide: Path,
    data_dir: Path,
    key: str,
    port: int,
    orthanc: Orthanc,
    options: argparse.Namespace,
) -> Pair:
    from cases.models import SlideImage

    files = sorted(file for file in slide.iterdir() if file.is_file())
    for file in files:
        orthanc.upload(file)
    image = SlideImage.objects.get()
    levels = list(image.instances.filter(flavor="volume").order_by("-total_columns"))
    version = orthanc.get("/system")["Version"]
    plugin = orthanc.get("/plugins/dicom-web")["Version"]
    return Pair(
        ours=Server(
            "pathsearch", "127.0.0.1", port, "/dicomweb", {"Authorization": f"Bearer {key}"}
        ),
        theirs=Server("orthanc", "127.0.0.1", orthanc.port, "/dicom-web"),
        orthanc=orthanc,
        data_dir=data_dir,
        slide=slide,
        study_uid=image.study_instance_uid,
        series_uid=image.series_instance_uid,
        levels=[(row.sop_instance_uid, row.frame_count) for row in levels],
        described={
            "instances": len(files),
            "levels": len(levels),
            "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 1),
            "frames_of_the_finest": levels[0].frame_count,
        },
        servers={
            "pathsearch": f"{options.workers} uvicorn workers ({_http()}), Postgres embedded",
            "orthanc": f"{version}, DICOMweb {plugin}, 50 HTTP threads (its default), SQLite",
        },
    )


def _http() -> str:
    parts = [name for name in ("uvloop", "httptools") if find_spec(name)]
    return " + ".join(parts) or "asyncio + h11"
