"""Partners that read from us: dicomweb-client, wsidicom's web reader, Orthanc, a slide viewer."""

import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from playwright.sync_api import sync_playwright
from pydicom.encaps import generate_frames
from wsidicom import WsiDicom, WsiDicomWebClient

from cases.demo.pyramid import pyramid
from cases.demo.tiff import write_tiff
from cases.dicomweb.virtual import virtual_objects
from cases.models import SlideImage
from cases.services import store
from cases.services.instances import instance_file
from cases.wsi.reader import open_slide
from tests.partners.orthanc import require_orthanc, running_orthanc
from tests.synthetic_slide import picture, write_dicom_slide

CHROMIUM = shutil.which("chromium")
NODE = Path(__file__).resolve().parents[2] / "node_modules"
VIEWER = NODE / "dicom-microscopy-viewer" / "dist"
CLIENT = NODE / "dicomweb-client" / "build" / "dicomweb-client.js"
SIDE = 1500


def uids_of(image: SlideImage) -> tuple[str, str]:
    """Return study and series UID as the site shows them."""
    if image.series_instance_uid:
        return image.study_instance_uid, image.series_instance_uid
    one = virtual_objects(image)[0]
    return one.study_uid, one.series_uid


def take_in(site, tmp_path, kind: str) -> SlideImage:
    if kind == "dicom":
        rgb = picture(SIDE, SIDE, seed=3)
        return site.take_in(write_dicom_slide(tmp_path / "slide", rgb=rgb, levels=3, label=True))
    file = tmp_path / "slide.tiff"
    write_tiff(file, pyramid(picture(SIDE, SIDE, seed=3)), 0.5, description="made", model="")
    return site.take_in(file)


def test_dicomweb_client_retrieves(reading_site, tmp_path):
    image = take_in(reading_site, tmp_path, "dicom")
    client = DICOMwebClient(reading_site.url, headers=reading_site.headers)
    study, series = uids_of(image)
    base = image.instances.select_related("slide_image").get(total_columns=SIDE)
    where = (study, series, base.sop_instance_uid)
    taken = client.retrieve_instance(*where)
    ours = pydicom.dcmread(instance_file(base))
    assert taken == ours
    assert len(client.retrieve_series(study, series)) == 4
    assert len(client.retrieve_study(study)) == 4
    told = client.retrieve_instance_metadata(*where)
    assert pydicom.Dataset.from_json(told).TotalPixelMatrixColumns == SIDE
    assert len(client.retrieve_series_metadata(study, series)) == 4
    assert len(client.retrieve_study_metadata(study)) == 4
    frames = list(generate_frames(ours.PixelData, number_of_frames=ours.NumberOfFrames))
    for media_types in (
        None,
        (("image/jpeg", "1.2.840.10008.1.2.4.50"),),
        (("application/octet-stream", "*"),),
    ):
        got = client.retrieve_instance_frames(*where, [1, 36, 7], media_types=media_types)
        assert got == [frames[0], frames[35], frames[6]], media_types
    shown = client.retrieve_instance_rendered(*where, media_types=("image/png",))
    assert Image.open(io.BytesIO(shown)).format == "PNG"
    # This client names the host without the port, so the addresses in its answers have none.
    path = told["7FE00010"]["BulkDataURI"].partition("/dicomweb/")[2]
    assert client.retrieve_bulkdata(f"{reading_site.url}/{path}") == frames
    with pytest.raises(requests.HTTPError, match="404"):
        client.retrieve_instance(study, series, "1.2.3")
    with pytest.raises(requests.HTTPError, match="406"):
        client.retrieve_instance_frames(
            *where, [1], media_types=(("image/jp2", "1.2.840.10008.1.2.4.90"),)
        )


@pytest.mark.parametrize("kind", ["dicom", "vendor"])
def test_wsidicom_opens_our_server_as_a_slide(reading_site, tmp_path, kind):
    image = take_in(reading_site, tmp_path, kind)
    session = requests.Session()
    session.headers.update(reading_site.headers)
    client = WsiDicomWebClient.create_client(reading_site.url, auth=session)
    with WsiDicom.open_web(client, *uids_of(image)) as slide:
        assert (slide.size.width, slide.size.height) == (SIDE, SIDE)
        assert slide.mpp.width == pytest.approx(image.mpp, rel=1e-3)
        ours = open_slide(store.image_path(image))
        for x, y in ((0, 0), (500, 300), (SIDE - 400, SIDE - 400)):
            theirs = np.asarray(slide.read_region((x, y), 0, (400, 400)).convert("RGB"))
            expected = ours.read_region_l0(x, y, 400, 400, 400, 400)
            # The vendor's tiles, too, go out as they are: nothing is coded a second time.
            assert np.abs(theirs.astype(int) - expected).mean() < 0.5
        thumbnail = np.asarray(slide.read_thumbnail((200, 200)).convert("RGB")).astype(int)
        assert np.abs(thumbnail - np.asarray(ours.thumbnail(200))).mean() < 12


@pytest.mark.parametrize("kind", ["dicom", "vendor"])
def test_orthanc_takes_from_us(reading_site, tmp_path, kind):
    require_orthanc()
    image = take_in(reading_site, tmp_path, kind)
    study, series = uids_of(image)
    servers = {"us": {"Url": reading_site.url, "HttpHeaders": reading_site.headers}}
    with running_orthanc(tmp_path, servers=servers) as orthanc:
        orthanc.post(
            "/dicom-web/servers/us/retrieve",
            {"Resources": [{"Study": study, "Series": series}], "Synchronous": True},
        )
        taken = {
            orthanc.get(f"/instances/{key}/tags?simplify")["SOPInstanceUID"]: key
            for key in orthanc.get("/instances")
        }
        if kind == "vendor":
            assert set(taken) == {one.sop_uid for one in virtual_objects(image)}
            return
        for row in image.instances.select_related("slide_image"):
            url = f"{orthanc.url}/instances/{taken[row.sop_instance_uid]}/file"
            assert requests.get(url, timeout=60).content == instance_file(row).read_bytes()


PAGE = """<!doctype html><html><meta charset="utf-8"><body style="margin:0">
<div id="viewport" style="width:900px;height:700px"></div>
<script src="/viewer-test/client.js"></script>
<script src="/viewer-test/dicomMicroscopyViewer.bundle.min.js"></script>
<script>
const asked = %s;
window.failures = [];
window.addEventListener("error", (event) => window.failures.push(String(event.message)));
const viewers = window.dicomMicroscopyViewer;
const client = new DICOMwebClient.api.DICOMwebClient({
  url: location.origin + "/dicomweb", headers: asked.headers });
client.retrieveSeriesMetadata({
  studyInstanceUID: asked.study, seriesInstanceUID: asked.series,
}).then((metadata) => {
  const images = metadata
    .map((m) => new viewers.metadata.VLWholeSlideMicroscopyImage({ metadata: m }))
    .filter((image) => image.ImageType[2] === "VOLUME");
  const viewer = new viewers.viewer.VolumeImageViewer({ client, metadata: images });
  viewer.render({ container: "viewport" });
  window.levels = images.length;
}).catch((error) => window.failures.push(String(error.stack || error)));
</script></body></html>"""


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["dicom", "vendor"])
def test_a_viewer_draws_a_slide_from_us(reading_site, tmp_path, kind):
    if CHROMIUM is None:
        pytest.skip("Debian's chromium is not installed")
    if not VIEWER.is_dir() or not CLIENT.exists():
        pytest.skip("the npm package dicom-microscopy-viewer is not installed")
    image = take_in(reading_site, tmp_path, kind)
    study, series = uids_of(image)
    asked = {"headers": reading_site.headers, "study": study, "series": series}
    shot = _drawn(reading_site, PAGE % json.dumps(asked), tmp_path / f"viewer-{kind}.png")
    if folder := os.environ.get("SCREENSHOTS"):
        shutil.copy(tmp_path / f"viewer-{kind}.png", folder)
    # The tissue of the synthetic slide is pink and its nuclei are purple.
    red, green, blue = (shot[..., n].astype(int) for n in range(3))
    tissue = (red > 180) & (green > 120) & (green < 205) & (blue > 150) & (red - green > 25)
    assert tissue.mean() > 0.15, f"{tissue.mean():.3f} of the picture is tissue"
    assert (tissue & (blue > 205)).mean() < 0.5


def _drawn(site, page_html: str, target: Path) -> np.ndarray:
    """Return the screenshot of the viewer's page once its tiles are there."""

    def work() -> np.ndarray:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM,
                # The viewer draws with WebGL, which here is done in software.
                args=[
                    "--no-sandbox",
                    "--no-first-run",
                    "--use-angle=swiftshader",
                    "--enable-unsafe-swiftshader",
                    "--ignore-gpu-blocklist",
                ],
            )
            page = browser.new_page(viewport={"width": 900, "height": 700})
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            frames: list[int] = []
            page.on(
                "response",
                lambda answer: "/frames/" in answer.url and frames.append(answer.status),
            )
            # Its worker, which decodes, it looks for at an address of its own.
            for where in ("**/viewer-test/**", "**/static/js/**"):
                page.route(where, lambda route: _serve(route, page_html))
            page.goto(f"{site.origin}/viewer-test/index.html")
            page.wait_for_function("window.levels || window.failures.length", timeout=120_000)
            assert page.evaluate("window.failures") == [], said
            for _second in range(60):
                page.wait_for_timeout(1000)
                page.screenshot(path=target)
                shot = np.asarray(Image.open(target).convert("RGB"))
                if frames and shot.std() > 12:
                    break
            page.wait_for_timeout(1500)
            page.screenshot(path=target)
            browser.close()
        assert frames and set(frames) == {200}, (frames, said)
        return np.asarray(Image.open(target).convert("RGB"))

    # Playwright's loop would shut Django's ORM out of this thread.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _serve(route, page_html: str) -> None:
    name = route.request.url.rpartition("/")[2].partition("?")[0]
    if name == "index.html":
        route.fulfill(body=page_html, content_type="text/html")
        return
    file = CLIENT if name == "client.js" else VIEWER / name
    if not file.exists():
        file = VIEWER / "dynamic-import" / name
    if not file.exists():
        route.fulfill(status=404, body="")
        return
    kinds = {".js": "text/javascript; charset=utf-8", ".wasm": "application/wasm"}
    route.fulfill(body=file.read_bytes(), content_type=kinds.get(file.suffix, "text/plain"))
