// Slides side by side. Locked, they move together: the same way on the glass in micrometres, at
// the same magnification, from where they were when the lock was closed, each as it was turned.

import {
  imageZoom,
  numberedBox,
  openSlide,
  seconds,
  showPower,
  showScaleBar,
} from "./slide-view.js";
import { zoomOfPower } from "./viewer-maths.js";

const shell = document.getElementById("compare-shell");
const matches = JSON.parse(document.getElementById("compare-matches").textContent);
const powerNow = document.getElementById("power-now");
const powerButtons = [...shell.querySelectorAll("[data-power]")];
const matchNow = document.getElementById("match-now");

let isLocked = true;
let isFollowing = false;
let match = -1;
let boxesAreShown = true;

const panes = [...document.querySelectorAll(".compare-pane")].map((element) => {
  const label = element.querySelector("strong").textContent;
  const viewer = openSlide(element.querySelector(".viewer"), element.dataset.dzi, label, {
    minZoomImageRatio: 0.5,
    // A slide that follows may be led past its edge; it must come back by the same way.
    visibilityRatio: 0,
    animationTime: seconds(0.4),
    imageLoaderLimit: 4,
  });
  return {
    element,
    viewer,
    slide: element.dataset.slide,
    mpp: Number(element.dataset.mpp),
    base: null,
    boxes: [],
  };
});

// --- where a pane is, on the glass -----------------------------------------------------------------

/** Return the centre of the view in micrometres, screen pixels per micrometre, and the turn. */
function stand(pane) {
  const view = pane.viewer.viewport;
  const centre = view.viewportToImageCoordinates(view.getCenter(false));
  return {
    x: centre.x * pane.mpp,
    y: centre.y * pane.mpp,
    scale: view.viewportToImageZoom(view.getZoom(false)) / pane.mpp,
    turn: view.getRotation(false),
  };
}

function go(pane, { x, y, scale }, immediately) {
  const view = pane.viewer.viewport;
  view.zoomTo(view.imageToViewportZoom(scale * pane.mpp), null, immediately);
  view.panTo(view.imageToViewportCoordinates(x / pane.mpp, y / pane.mpp), immediately);
}

function turned({ x, y }, degrees) {
  const angle = (degrees * Math.PI) / 180;
  return {
    x: x * Math.cos(angle) - y * Math.sin(angle),
    y: x * Math.sin(angle) + y * Math.cos(angle),
  };
}

/** Take where all are now as where they belong together. */
function rebase() {
  for (const pane of panes) pane.base = stand(pane);
}

function follow(leader, immediately) {
  if (!isLocked || isFollowing || !leader.base) return;
  isFollowing = true;
  const now = stand(leader);
  const moved = turned({ x: now.x - leader.base.x, y: now.y - leader.base.y }, now.turn);
  for (const pane of panes) {
    if (pane === leader || !pane.base) continue;
    const own = turned(moved, -pane.viewer.viewport.getRotation(false));
    go(pane, { x: pane.base.x + own.x, y: pane.base.y + own.y, scale: now.scale }, immediately);
  }
  isFollowing = false;
}

// --- scale -------------------------------------------------------------------------------------------

function showScale(pane) {
  const zoom = imageZoom(pane.viewer);
  showScaleBar(pane.element.querySelector(".scale-bar"), pane.mpp / zoom, 110);
  if (pane === panes[0]) showPower(powerNow, powerButtons, zoom, pane.mpp);
}

// --- matches -----------------------------------------------------------------------------------------

function showBoxes() {
  for (const pane of panes) {
    for (const box of pane.boxes) pane.viewer.removeOverlay(box);
    pane.boxes = [];
    if (!boxesAreShown) continue;
    matches.forEach((found, index) => {
      const place = found.places[pane.slide];
      if (!place) return;
      const element = numberedBox(found.number);
      element.classList.toggle("is-chosen", index === match);
      const location = pane.viewer.viewport.imageToViewportRectangle(
        place[0], place[1], place[2], place[2],
      );
      pane.viewer.addOverlay({ element, location });
      pane.boxes.push(element);
    });
  }
}

function goToMatch(index) {
  if (!matches.length) return;
  match = (index + matches.length) % matches.length;
  const found = matches[match];
  isFollowing = true;
  const first = panes.find((pane) => found.places[pane.slide]);
  const [, , side] = found.places[first.slide];
  // The place takes a third of the narrower side of the window.
  const room = first.viewer.viewport.getContainerSize();
  const scale = Math.min(room.x, room.y) / 3 / (side * first.mpp);
  for (const pane of panes) {
    const place = found.places[pane.slide];
    if (!place) continue;
    const half = place[2] / 2;
    go(pane, { x: (place[0] + half) * pane.mpp, y: (place[1] + half) * pane.mpp, scale });
  }
  isFollowing = false;
  rebase();
  showBoxes();
  matchNow.textContent = `${found.number} / ${matches.length} · ${found.similarity.toFixed(2)}`;
}

// --- buttons and keys ----------------------------------------------------------------------------------

const pressed = (act, value) =>
  shell.querySelector(`[data-act="${act}"]`)?.setAttribute("aria-pressed", String(value));

function setLocked(value) {
  isLocked = value;
  pressed("lock", value);
  if (!value) return;
  rebase();
  follow(panes[0], false);
}

function toPower(power) {
  const pane = panes[0];
  const view = pane.viewer.viewport;
  view.zoomTo(view.imageToViewportZoom(zoomOfPower(power, pane.mpp)));
  if (!isLocked)
    for (const other of panes.slice(1))
      other.viewer.viewport.zoomTo(
        other.viewer.viewport.imageToViewportZoom(zoomOfPower(power, other.mpp)),
      );
}

function turn(pane, degrees) {
  pane.viewer.viewport.rotateBy(degrees);
  rebase();
}

const acts = {
  lock: () => setLocked(!isLocked),
  home: () => {
    isFollowing = true;
    for (const pane of panes) pane.viewer.viewport.goHome();
    isFollowing = false;
    rebase();
    follow(panes[0], false);
  },
  "match-next": () => goToMatch(match + 1),
  "match-before": () => goToMatch(match - 1),
  boxes: () => {
    boxesAreShown = !boxesAreShown;
    pressed("boxes", boxesAreShown);
    showBoxes();
  },
};

shell.addEventListener("click", (event) => {
  const button = event.target.closest("button[type=button]");
  if (!button) return;
  if (button.dataset.power) toPower(Number(button.dataset.power));
  else if (button.dataset.turn)
    turn(panes.find((pane) => pane.element.contains(button)), Number(button.dataset.turn));
  else acts[button.dataset.act]?.();
});

function onKey(pane, event) {
  const original = event.originalEvent;
  if (original.ctrlKey || original.altKey || original.metaKey) return;
  const key = original.key.toLowerCase();
  const act = { l: "lock", n: "match-next", p: "match-before", g: "boxes", 0: "home" }[key];
  if (act) acts[act]();
  else if (key === "[" || key === "]") turn(pane, key === "[" ? -15 : 15);
  else if (powerButtons[Number(key) - 1]) toPower(Number(powerButtons[Number(key) - 1].dataset.power));
  else if (key !== "f" && key !== "r") return;
  event.preventDefaultAction = true;
}

let open = 0;
for (const pane of panes) {
  pane.viewer.addHandler("open", () => {
    showScale(pane);
    open += 1;
    if (open < panes.length) return;
    rebase();
    follow(panes[0], true);
    showBoxes();
    if (matches.length) goToMatch(0);
    document.body.dataset.ready = "true";
  });
  pane.viewer.addHandler("pan", () => follow(pane, false));
  pane.viewer.addHandler("zoom", () => follow(pane, false));
  pane.viewer.addHandler("animation", () => showScale(pane));
  pane.viewer.addHandler("canvas-key", (event) => onKey(pane, event));
}

// For tests: where each pane is.
window.comparePanes = () => panes.map(stand);
