// Walking through a tumour board: the slide of the case at its place, and the keys, which work
// on the slide too.

import { imageZoom, openSlide, seconds, showPower, showScaleBar } from "./slide-view.js";
import { parsePlace } from "./viewer-maths.js";

const shell = document.getElementById("walk");
document.querySelector("[data-full-screen]").addEventListener("click", () =>
  document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen(),
);

if (shell.dataset.dzi) {
  const slide = {
    mpp: Number(shell.dataset.mpp),
    width: Number(shell.dataset.width),
    height: Number(shell.dataset.height),
  };
  const viewer = openSlide(
    document.getElementById("viewer"),
    shell.dataset.dzi,
    document.querySelector("h1").textContent,
    { visibilityRatio: 0.3, minZoomImageRatio: 0.7, animationTime: seconds(0.6), imageLoaderLimit: 6 },
  );
  const showScale = () => {
    const zoom = imageZoom(viewer);
    showPower(document.getElementById("power-now"), [], zoom, slide.mpp);
    showScaleBar(document.getElementById("scale-bar"), slide.mpp / zoom, 140);
  };
  viewer.addHandler("open", () => {
    const place = parsePlace(`#${shell.dataset.place}`, slide);
    if (place) {
      const location = viewer.viewport.imageToViewportRectangle(place.x, place.y, place.width, place.height);
      const element = Object.assign(document.createElement("div"), { className: "region-place" });
      viewer.addOverlay({ element, location });
      viewer.viewport.fitBoundsWithConstraints(location, true);
    }
    showScale();
  });
  viewer.addHandler("animation", showScale);
  viewer.addHandler("resize", () => viewer.isOpen() && showScale());
  viewer.addHandler("open-failed", () => (document.getElementById("viewer-failed").hidden = false));
  viewer.addHandler("canvas-key", (event) => {
    const { key, ctrlKey, altKey, metaKey } = event.originalEvent;
    if (ctrlKey || altKey || metaKey) return;
    // OpenSeadragon turns and mirrors on r and f: a slide is not to be mirrored by a slip.
    if (key === "f" || key === "r") event.preventDefaultAction = true;
    const link = document.querySelector(`.viewer-tools [data-key="${CSS.escape(key)}"]`);
    if (!link) return;
    event.preventDefaultAction = true;
    link.click();
  });
}
