"""What a map costs: `python -m benchmarks.archive_map [SLIDES] [DIMENSION]`.

Seconds and memory to lay out made-up slides (as many kinds of tissue as real archives have, with
noise), the bytes that a browser gets, and, where Chromium is there, the time to the first frame and
of each frame while the map moves. WebGL runs in software here: a GPU draws faster.
"""

import gzip
import resource
import shutil
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

KINDS = 60
FRAMES = 30


def made_vectors(count: int, dimension: int) -> np.ndarray:
    """Return unit vectors (count, dimension) around KINDS directions."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(KINDS, dimension)).astype(np.float32)
    rows = centres[rng.integers(0, KINDS, count)]
    for start in range(0, count, 10_000):
        part = rows[start : start + 10_000]
        part += rng.normal(size=part.shape).astype(np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def packed(places: np.ndarray) -> bytes:
    """Return what a browser gets of these places."""
    from retrieval.selectors_map import ArchiveMap

    rng = np.random.default_rng(1)
    names = {"diagnosis": 60, "organ": 12, "scanner": 6, "department": 5}
    run: Any = SimpleNamespace(created_at=datetime.now(UTC), model=SimpleNamespace(name="made"))
    return ArchiveMap(
        run,
        [uuid.UUID(int=int(n)) for n in rng.integers(0, 2**63, len(places))],
        places,
        {name: rng.integers(0, n, len(places)).astype(np.uint16) for name, n in names.items()},
        {name: [f"{name} {at}" for at in range(n)] for name, n in names.items()},
    ).packed()


def draw(places: np.ndarray) -> None:
    """Draw the places in Chromium and print how long that takes."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        print("Chromium is not installed: nothing is drawn.")
        return
    source = (Path(__file__).parents[1] / "static/js/map-points.js").read_text(encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_content("<canvas id=c style='width:980px;height:560px'></canvas>")
        page.add_script_tag(content=source.replace("export class", "class"))
        told = page.evaluate(
            """([text, frames]) => {
              const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
              const all = new Float32Array(bytes.buffer), canvas = document.getElementById("c");
              const n = all.length / 2, started = performance.now();
              const points = new Points(canvas, all.slice(0, n), all.slice(n));
              points.set("colours", new Uint8Array(4 * n).fill(120));
              points.set("states", new Uint8Array(n).fill(1));
              const pixel = new Uint8Array(4), gl = points.gl;
              const frame = (x) => { points.draw({ x, y: 0, half: 1 });
                gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel); }; // waits for the end
              frame(0);
              const first = performance.now() - started, times = [];
              for (let i = 0; i < frames; i++) { const at = performance.now();
                frame(i / 100); times.push(performance.now() - at); }
              times.sort((a, b) => a - b);
              return [first, times[frames >> 1], times[frames - 1]]; }""",
            [_base64(np.concatenate([places[:, 0], places[:, 1]])), FRAMES],
        )
        browser.close()
    print(f"first frame {told[0]:.0f} ms; a frame {told[1]:.0f} ms (median), {told[2]:.0f} (worst)")


def _base64(values: np.ndarray) -> str:
    from base64 import b64encode

    return b64encode(values.astype("<f4").tobytes()).decode()


def main(count: int = 100_000, dimension: int = 1280) -> None:
    """Print the figures."""
    from retrieval.engine.layout import SAMPLE_MOST, fit_layout

    vectors = made_vectors(count, dimension)
    drawn = np.sort(np.random.default_rng(0).permutation(count)[:SAMPLE_MOST])
    started = time.perf_counter()
    layout = fit_layout(vectors[drawn])
    fitted = time.perf_counter()
    places = layout.place(vectors)
    placed = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"{count} slides of {dimension} numbers, {len(drawn)} in the sample:")
    print(f"fit {fitted - started:.1f} s, place {placed - fitted:.1f} s, peak {peak:.1f} GiB")
    body = packed(places)
    zipped = gzip.compress(body, 1)
    print(f"{len(body) / 1e6:.2f} MB for the browser, {len(zipped) / 1e6:.2f} MB by gzip")
    draw(places)


if __name__ == "__main__":
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pathsearch_site.settings.testing")
    django.setup()
    main(*map(int, sys.argv[1:3]))
