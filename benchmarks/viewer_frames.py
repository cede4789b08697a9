"""How smoothly the viewer moves: `python -m benchmarks.viewer_frames [--slide FILE_OR_FOLDER]`.

A site of its own serves the slide to headless Chromium (1366 x 768), which walks over it as a hand
does: a new goal every 120 ms, pans at 10x and 20x, and zooms between the whole slide and 40x. The
first walk fills the caches, the further ones are measured: frames per second (p50, and p5: the rate
that 95 of 100 frames reach), the longest wait for a frame, tasks over 50 ms, tiles that came
from the server, and the milliseconds of a frame that the viewer's own scripts took (p50, p95). Once
with no regions on the slide and once with --regions polygons.

Headless Chromium paints in software here, on the same cores that serve the tiles; it offers 60
frames a second at most. Painting is a GPU's work at a desk; the scripts' part is what PathSearch
adds to it, and must leave room in the 16.7 ms of a frame at 60 a second.
"""

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_name
from benchmarks.tiles import PASSWORD, own_site, prepare, serve

# Seconds for the last tiles of the filling walk to come.
QUIET_S = 3
POINTS = 100

# Times what runs before each frame: OpenSeadragon's drawing and what PathSearch hangs on it.
TIMED = """(() => {
  const own = window.requestAnimationFrame.bind(window);
  window.scriptOfFrames = new Map();
  window.requestAnimationFrame = (call) => own((at) => {
    const began = performance.now();
    try { return call(at); }
    finally {
      scriptOfFrames.set(at, (scriptOfFrames.get(at) || 0) + performance.now() - began);
    }
  });
})()"""

# Returns what happened between two frames. Steps are fractions of the slide and magnifications.
WALK = """async ([steps, mpp, every]) => {
  const { viewport } = slideViewer, gaps = [], tasks = [];
  const long = new PerformanceObserver((list) => tasks.push(...list.getEntries()));
  long.observe({ entryTypes: ["longtask"] });
  performance.setResourceTimingBufferSize(10000);
  performance.clearResourceTimings();
  scriptOfFrames.clear();
  let last = null, isOver = false;
  const frame = (at) => {
    if (last !== null) gaps.push(at - last);
    last = at;
    if (!isOver) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  for (const [x, y, power] of steps) {
    const source = slideViewer.world.getItemAt(0).getContentSize();
    viewport.panTo(viewport.imageToViewportCoordinates(x * source.x, y * source.y));
    if (power) viewport.zoomTo(viewport.imageToViewportZoom((power * mpp) / 10));
    else viewport.zoomTo(viewport.getHomeZoom());
    await wait(every);
  }
  isOver = true;
  await wait(100);
  long.disconnect();
  const tiles = performance.getEntriesByType("resource").filter(
    (one) => one.name.includes("image_files") && one.transferSize > 0);
  const scripts = [...scriptOfFrames.values()];
  return { gaps, scripts, tasks: tasks.map((one) => one.duration), tiles: tiles.length };
}"""


def steps() -> list[tuple[float, float, float]]:
    """Return the walk: (x, y, magnification), 0 for the whole slide."""
    found: list[tuple[float, float, float]] = []
    for power in (10, 20):
        found += [(0.3 + 0.4 * at / 20, 0.4 + 0.2 * (at % 10) / 10, power) for at in range(20)]
    for power in (2, 5, 10, 20, 40, 20, 10, 5, 2, 0):
        found += [(0.5, 0.5, power)] * 3
    return found


def load() -> str:
    """Return how many processes have wanted a core in the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def show(name: str, walks: list[dict[str, Any]]) -> None:
    """Print the figures of the walks in one line."""
    gaps = sorted(gap for walk in walks for gap in walk["gaps"])
    tasks = [task for walk in walks for task in walk["tasks"]]
    scripts = sorted(took for walk in walks for took in walk["scripts"])
    p50, p95 = gaps[len(gaps) // 2], gaps[int(len(gaps) * 0.95)]
    own50, own95 = scripts[len(scripts) // 2], scripts[int(len(scripts) * 0.95)]
    print(
        f"{name:36}{1000 / p50:5.1f} {1000 / p95:5.1f} {gaps[-1]:8.0f} {len(tasks):6d}"
        f" {sum(tasks):7.0f} {sum(walk['tiles'] for walk in walks):6d}  {len(gaps):6d}"
        f" {own50:7.1f} {own95:6.1f}",
        flush=True,
    )


def add_regions(pk: str, count: int, width: int, height: int) -> None:
    """Put polygons of POINTS points all over the slide."""
    import numpy as np
    from django.contrib.auth import get_user_model

    from cases.models import SlideImage, SlideRegion

    rng = np.random.default_rng(0)
    turns = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    image = SlideImage.objects.get(pk=pk)
    author = get_user_model().objects.get(username="bench")
    for number in range(count):
        radius = rng.uniform(0.005, 0.05) * width
        centre = rng.uniform(0.1, 0.9, 2) * (width, height)
        around = radius * rng.uniform(0.9, 1.1, POINTS)
        points = centre + np.stack([np.cos(turns), np.sin(turns)], axis=1) * around[:, None]
        SlideRegion.objects.create(
            slide_image=image,
            department_id=image.department_id,
            author=author,
            kind=SlideRegion.Kind.POLYGON,
            points=np.clip(points, 0, (width, height)).round().astype(int).tolist(),
            name=f"Region {number + 1}",
        )


def walk(page: Any, url: str, mpp: float, walks: int) -> list[dict[str, Any]]:
    """Open the slide, walk once unmeasured, then return what each further walk saw."""
    page.goto(url)
    while not page.evaluate("() => Boolean(window.slideViewer?.isOpen())"):
        page.wait_for_timeout(100)
    told = [page.evaluate(WALK, [steps(), mpp, 120])]
    page.wait_for_timeout(QUIET_S * 1000)
    for _ in range(walks):
        told.append(page.evaluate(WALK, [steps(), mpp, 120]))
    return told


def run(slide: Path | None, regions: int, walks: int) -> None:
    """Print the figures."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Chromium is not installed.")
    path, pk, width, height = prepare(slide)
    from cases.models import SlideImage

    mpp = SlideImage.objects.get(pk=pk).mpp
    process, port = serve()
    print(f"machine   {cpu_name()}, {os.cpu_count()} cores, load {load()}; software painting")
    print(f"slide     {path.name}, {width} x {height}; {len(steps())} steps, {walks} warm walks\n")
    print(
        f"{'frames a second':36}  p50    p5  longest  tasks      ms  tiles  frames  script    p95"
    )
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            page.add_init_script(TIMED)
            site = f"http://127.0.0.1:{port}"
            page.goto(f"{site}/login/")
            page.fill("input[name=username]", "bench")
            page.fill("input[name=password]", PASSWORD)
            page.click("main form button")
            page.wait_for_url(lambda url: "/login/" not in url)
            bare = walk(page, f"{site}/slides/{pk}/", mpp, walks)
            show("first walk, nothing kept", bare[:1])
            show("warm", bare[1:])
            os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright's loop runs in this thread
            add_regions(pk, regions, width, height)
            drawn = walk(page, f"{site}/slides/{pk}/", mpp, walks)
            shown = page.locator(".region-path").count()
            show(f"warm, {shown} regions of {POINTS} points", drawn[1:])
            print(f"\nChromium {browser.version}; load {load()}")
            browser.close()
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Run on a site of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, help="a file or DICOM folder; else one is made")
    parser.add_argument("--regions", type=int, default=200, help="polygons on the slide")
    parser.add_argument("--walks", type=int, default=2, help="measured walks")
    options = parser.parse_args()
    with own_site():
        run(options.slide, options.regions, options.walks)


if __name__ == "__main__":
    main()
