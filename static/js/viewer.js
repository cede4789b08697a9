// The slide viewer: magnification and scale bar from the slide's µm per pixel, a box to search
// with, and a place in the address (#l0=x,y,width,height, level-0 pixels) to open at.

import { imageZoom, openSlide, seconds, showPower, showScaleBar } from "./slide-view.js";
import { parsePlace, placeFragment, zoomOfPower } from "./viewer-maths.js";

const shell = document.getElementById("viewer-shell");
const stage = document.getElementById("viewer");
const slide = {
  mpp: Number(shell.dataset.mpp),
  width: Number(shell.dataset.width),
  height: Number(shell.dataset.height),
};

const viewer = openSlide(stage, shell.dataset.dzi, document.querySelector("h1").textContent, {
  showNavigator: true,
  navigatorPosition: "TOP_RIGHT",
  navigatorSizeRatio: 0.16,
  minZoomImageRatio: 0.7,
  visibilityRatio: 0.3,
  animationTime: seconds(0.6),
  imageLoaderLimit: 6,
});
viewer.navigator.element.setAttribute("aria-hidden", "true");

// --- magnification and scale bar ---------------------------------------------------------------

const powerNow = document.getElementById("power-now");
const powerButtons = [...document.querySelectorAll("[data-power]")];
const scaleBar = document.getElementById("scale-bar");

function showScale() {
  const zoom = imageZoom(viewer);
  showPower(powerNow, powerButtons, zoom, slide.mpp);
  showScaleBar(scaleBar, slide.mpp / zoom, 140);
}
viewer.addHandler("open", () => {
  showScale();
  openPlace(true);
});
viewer.addHandler("animation", showScale);
viewer.addHandler("resize", () => viewer.isOpen() && showScale());

function zoomToPower(power) {
  const zoom = viewer.viewport.imageToViewportZoom(zoomOfPower(power, slide.mpp));
  viewer.viewport.zoomTo(zoom);
}

// --- places and boxes, all in level-0 pixels -----------------------------------------------------

const boxElement = Object.assign(document.createElement("div"), { className: "region-box" });
const placeElement = Object.assign(document.createElement("div"), { className: "region-place" });
let box = null;

const toViewport = (place) =>
  viewer.viewport.imageToViewportRectangle(place.x, place.y, place.width, place.height);

function outline(element, place) {
  viewer.removeOverlay(element);
  if (place) viewer.addOverlay({ element, location: toViewport(place) });
}

function openPlace(immediately) {
  const place = parsePlace(location.hash, slide);
  outline(placeElement, place);
  if (!place) return;
  // Some of what lies around it belongs to seeing it.
  const margin = Math.max(place.width, place.height) * 0.5;
  const around = {
    x: place.x - margin,
    y: place.y - margin,
    width: place.width + 2 * margin,
    height: place.height + 2 * margin,
  };
  viewer.viewport.fitBoundsWithConstraints(toViewport(around), immediately);
}
addEventListener("hashchange", () => openPlace(false));

const form = document.querySelector("#box-some form");

function setBox(next) {
  box = next;
  outline(boxElement, box);
  document.dispatchEvent(new CustomEvent("region-chosen", { detail: box })); // the search bar
  document.getElementById("box-none").hidden = Boolean(box);
  document.getElementById("box-some").hidden = !box;
  if (!box) return;
  for (const name of ["x", "y", "width", "height"]) if (form) form.elements[name].value = box[name];
  const millimetres = (pixels) => ((pixels * slide.mpp) / 1000).toFixed(2);
  document.getElementById("box-size").textContent =
    `${millimetres(box.width)} × ${millimetres(box.height)} mm · ${box.width} × ${box.height} px`;
  document.getElementById("box-link").href = placeFragment(box);
}

document.addEventListener("box-wanted", (event) => setBox(event.detail)); // a region of the list

/** Return the box around a rectangle of the window as whole pixels inside the slide.
 *
 * Around, because a turned slide lies across the window. */
function boxAround(a, b) {
  const corners = [a, b, new OpenSeadragon.Point(a.x, b.y), new OpenSeadragon.Point(b.x, a.y)].map(
    (corner) => viewer.viewport.viewerElementToImageCoordinates(corner),
  );
  const clamp = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
  const span = (name, most) => {
    const values = corners.map((corner) => corner[name]);
    const least = clamp(Math.min(...values), most);
    return [least, clamp(Math.max(...values), most) - least];
  };
  const [x, width] = span("x", slide.width);
  const [y, height] = span("y", slide.height);
  return { x, y, width, height };
}

function viewAsBox() {
  const size = viewer.viewport.getContainerSize();
  const next = boxAround(new OpenSeadragon.Point(0, 0), size);
  if (next.width > 0 && next.height > 0) setBox(next);
}

// --- drawing -------------------------------------------------------------------------------------

const drawButton = document.querySelector("[data-act=draw]");
let isDrawing = false;
let start = null;

function setDrawing(value) {
  isDrawing = value;
  drawButton.setAttribute("aria-pressed", String(value));
  stage.classList.toggle("is-drawing", value);
}

viewer.addHandler("canvas-press", (event) => {
  if (isDrawing) start = viewer.viewport.pointFromPixel(event.position);
});
viewer.addHandler("canvas-drag", (event) => {
  if (!isDrawing || !start) return;
  event.preventDefaultAction = true;
  const next = boxAround(viewer.viewport.pixelFromPoint(start, true), event.position);
  if (next.width > 0 && next.height > 0) setBox(next);
});
viewer.addHandler("canvas-drag-end", (event) => {
  if (!isDrawing) return;
  event.preventDefaultAction = true;
  start = null;
  setDrawing(false);
});

// --- buttons and keys ------------------------------------------------------------------------------

const TURN = 15;
const acts = {
  "zoom-in": () => viewer.viewport.zoomBy(1.5),
  "zoom-out": () => viewer.viewport.zoomBy(1 / 1.5),
  home: () => {
    viewer.viewport.setRotation(0);
    viewer.viewport.goHome();
  },
  "turn-left": () => viewer.viewport.rotateBy(-TURN),
  "turn-right": () => viewer.viewport.rotateBy(TURN),
  draw: () => setDrawing(!isDrawing),
  "view-as-box": viewAsBox,
  "clear-box": () => setBox(null),
  "full-screen": () =>
    document.fullscreenElement ? document.exitFullscreen() : shell.requestFullscreen(),
};
shell.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !viewer.isOpen()) return;
  if (button.dataset.power) zoomToPower(Number(button.dataset.power));
  else acts[button.dataset.act]?.();
  viewer.viewport.applyConstraints();
  // A button that was pressed by mouse gives the keys back to the slide; one by key keeps its place.
  if (event.detail && button.closest(".viewer-tools")) takeKeys();
});

// The keys work on the focused slide only, so that no letter acts on what is typed elsewhere.
const takeKeys = () => viewer.canvas.focus({ preventScroll: true });
viewer.addHandler("open", () => {
  if (document.activeElement === document.body) takeKeys();
});

viewer.addHandler("canvas-key", (event) => {
  const original = event.originalEvent;
  if (original.ctrlKey || original.altKey || original.metaKey) return;
  const key = original.key.toLowerCase();
  const power = powerButtons[Number(key) - 1];
  // OpenSeadragon turns and mirrors on r and f: a slide is not to be mirrored by a slip.
  if (key === "f" || key === "r") event.preventDefaultAction = true;
  else if (key >= "1" && key <= "9" && power) zoomToPower(Number(power.dataset.power));
  else if (key === "[") acts["turn-left"]();
  else if (key === "]") acts["turn-right"]();
  else if (key === "b") setDrawing(!isDrawing);
  else if (key === "v") viewAsBox();
  else if (key === "escape") isDrawing ? setDrawing(false) : setBox(null);
  else return;
  event.preventDefaultAction = true;
});

// --- label and failures ------------------------------------------------------------------------------

const labelButton = document.querySelector("[data-label]");
labelButton?.addEventListener("click", () => {
  const image = new Image();
  image.alt = labelButton.textContent;
  image.src = labelButton.dataset.label;
  document.getElementById("label-place").replaceChildren(image);
  labelButton.setAttribute("aria-expanded", "true");
});

let failures = 0;
const failed = document.getElementById("viewer-failed");
viewer.addHandler("open-failed", () => (failed.hidden = false));
viewer.addHandler("tile-load-failed", () => {
  failures += 1;
  if (failures >= 3) failed.hidden = false;
});

// For tests and other scripts of the page.
window.slideViewer = viewer;
