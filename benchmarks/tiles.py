"""How long a viewer waits for a tile: through the live server, beside OpenSlide's own DeepZoom.

    python -m benchmarks.tiles [--slide FILE_OR_FOLDER] [--tiles 150] [--viewers 1 8]

A data folder, a database and a server of its own are made and removed again. Every viewer
has one connection and asks for its tiles one after the other, drawn at random (fixed seed)
from the three finest z-levels. "cold" is the first pass after the server began, with no
slide open; "warm" repeats the same tiles. The system's file cache is warm in both. The
baseline reads and encodes the same tiles (JPEG, quality 85) in this process: no HTTP, no
sign-in, no rights, so the difference is what these cost.
"""

import argparse
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "benchmark of tiles"
Tile = tuple[int, int, int]


def tiles_to_ask(width: int, height: int, count: int, seed: int) -> list[Tile]:
    """Return `count` tiles (z_level, column, row) of the three finest z-levels."""
    from cases.wsi.deepzoom import DeepZoom

    zoom = DeepZoom(width, height)
    finest = range(max(0, zoom.z_level_count - 3), zoom.z_level_count)
    every = [
        (z_level, column, row)
        for z_level in finest
        for column in range(zoom.columns(z_level))
        for row in range(zoom.rows(z_level))
    ]
    return random.Random(seed).choices(every, k=count)


def timed(ask: Callable[[Tile], None], tiles: list[Tile]) -> list[float]:
    """Return the milliseconds of each tile."""
    spent = []
    for tile in tiles:
        began = time.perf_counter()
        ask(tile)
        spent.append((time.perf_counter() - began) * 1000)
    return spent


def summary(spent: list[float], seconds: float) -> dict[str, float]:
    """Return median, 95th percentile (ms) and throughput."""
    ordered = sorted(spent)
    return {
        "p50_ms": round(ordered[len(ordered) // 2], 1),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)], 1),
        "tiles_per_second": round(len(ordered) / seconds, 1),
    }


def measure(askers: list[Callable[[Tile], None]], per_viewer: list[list[Tile]]) -> dict:
    """Return the summary of all viewers asking at the same time."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(askers)) as pool:
        spent = list(pool.map(timed, askers, per_viewer))
    seconds = time.perf_counter() - began
    return summary([value for one in spent for value in one], seconds)


class Viewer:
    """One signed-in connection to the server."""

    def __init__(self, port: int, slide_pk: str, user: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.cookies: dict[str, str] = {}
        self.base = f"/slides/{slide_pk}/image_files"
        page = self.send("GET", "/login/").decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        form = {"csrfmiddlewaretoken": token.group(1), "username": user, "password": PASSWORD}
        self.send("POST", "/login/", urlencode(form), status=302)
        # The server would close it while the other viewers sign in; it opens again at need.
        self.connection.close()

    def send(self, method: str, path: str, body: str | None = None, status: int = 200) -> bytes:
        """Return the answer's body; any other status is an error."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.split(";")[0].partition("=")
            self.cookies[name] = value
        if response.status != status:
            raise SystemExit(f"{method} {path}: {response.status}")
        return content

    def tile(self, tile: Tile) -> None:
        """Fetch one tile."""
        z_level, column, row = tile
        self.send("GET", f"{self.base}/{z_level}/{column}_{row}.jpeg")


def baseline(slide: Path) -> Callable[[Tile], None] | None:
    """Return OpenSlide's DeepZoomGenerator as an asker, None for what OpenSlide does not read."""
    import openslide
    from openslide.deepzoom import DeepZoomGenerator

    try:
        # OpenSlide reads a DICOM series by any of its files.
        file = next(iter(sorted(slide.iterdir()))) if slide.is_dir() else slide
        generator = DeepZoomGenerator(openslide.OpenSlide(str(file)), 254, 1)
    except openslide.OpenSlideError:
        return None

    def ask(tile: Tile) -> None:
        z_level, column, row = tile
        generator.get_tile(z_level, (column, row)).save(BytesIO(), "JPEG", quality=85)

    return ask


@contextmanager
def own_site() -> Iterator[None]:
    """Point the settings at a data folder and a database of their own, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="pathsearch-bench-") as folder:
        os.environ["PATHSEARCH_DATA_DIR"] = folder
        os.environ["DJANGO_SETTINGS_MODULE"] = "pathsearch_site.settings.development"
        os.environ.pop("DATABASE_URL", None)
        from pathsearch_site import embedded_postgres

        embedded_postgres.ensure_database_url()
        try:
            yield
        finally:
            from django.db import connections

            connections.close_all()
            embedded_postgres.stop()


def prepare(slide: Path | None) -> tuple[Path, str, int, int]:
    """Return the slide's path, the id of its row, its width and its height."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from cases.demo.pyramid import pyramid
    from cases.demo.tiff import write_tiff
    from cases.permissions import Role
    from cases.wsi.reader import open_slide
    from tests.factories import DepartmentFactory, make_member, make_slide_image
    from tests.synthetic_slide import picture

    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    department = DepartmentFactory(code="bench")
    image = make_slide_image(department)
    target = settings.DATA_DIR / "slides" / str(image.pk)
    target.mkdir(parents=True)
    if slide is None:
        path = target / "slide.tiff"
        levels = pyramid(picture(8192, 6144))
        write_tiff(path, levels, 0.5, description="made for a benchmark", model="")
    else:
        path = target / slide.name
        path.symlink_to(slide.resolve())
    reader = open_slide(path)
    image.path = str(path.relative_to(settings.DATA_DIR))
    image.width_l0, image.height_l0 = reader.width_l0, reader.height_l0
    image.save()
    reader.close()
    user = make_member(department, Role.PATHOLOGIST, username="bench")
    user.set_password(PASSWORD)
    user.save()
    return path, str(image.pk), image.width_l0, image.height_l0


def serve() -> tuple[subprocess.Popen, int]:
    """Return a new server process and its port, when it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    application = "pathsearch_site.asgi:application"
    options = ["--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", application, *options], cwd=ROOT)
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def colour_correction(count: int = 200) -> dict[str, float]:
    """Return the milliseconds that one tile's way to sRGB takes, and those of making the transform.

    By a profile of curves and a matrix; one with tables can take longer.
    """
    import numpy as np

    from cases.wsi.colour import correction
    from tests.icc import swapped

    profile, tile = swapped(), np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    began = time.perf_counter()
    found = correction(profile)
    made = time.perf_counter()
    assert found is not None
    spent = timed(lambda _: found.apply(tile), [(0, 0, 0)] * count)
    ordered = sorted(spent)
    return {
        "made_once_ms": round((made - began) * 1000, 1),
        "p50_ms": round(ordered[count // 2], 2),
        "p95_ms": round(ordered[int(count * 0.95)], 2),
    }


def run(slide: Path | None, tiles: int, viewers: list[int]) -> dict:
    """Return the numbers of the whole run."""
    path, pk, width, height = prepare(slide)
    result = {"slide": path.name, "width_l0": width, "height_l0": height, "cores": os.cpu_count()}
    for count in viewers:
        asked = [tiles_to_ask(width, height, tiles, seed) for seed in range(count)]
        process, port = serve()
        try:
            open_viewers = [Viewer(port, pk, "bench").tile for _ in range(count)]
            result[f"pathsearch cold, {count} viewers"] = measure(open_viewers, asked)
            result[f"pathsearch warm, {count} viewers"] = measure(open_viewers, asked)
        finally:
            process.terminate()
            process.wait()
        plain = baseline(path)
        if plain is not None:
            result[f"openslide deepzoom cold, {count} viewers"] = measure([plain] * count, asked)
            result[f"openslide deepzoom warm, {count} viewers"] = measure([plain] * count, asked)
    result["colours of a tile corrected, alone"] = colour_correction()
    return result


def main() -> None:
    """Run and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="a file or DICOM folder; else one is made")
    parser.add_argument("--tiles", type=int, default=150, help="tiles per viewer")
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    with own_site():
        print(json.dumps(run(options.slide, options.tiles, options.viewers), indent=2))


if __name__ == "__main__":
    main()
