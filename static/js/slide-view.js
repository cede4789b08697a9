// What the viewer and the comparison have in common: opening a slide, its scale, numbered boxes.

import { powerOf, scaleBarLength } from "./viewer-maths.js";

// OpenSeadragon writes a style element of its own unless it finds one, and the CSP forbids it.
// What it would say stands in viewer.css; this one is of no namespace that a browser styles by.
const mark = document.createElementNS("urn:pathsearch", "style");
mark.setAttribute("data-openseadragon-mobile-css", "");
document.head.append(mark);

/** Open a slide in an element; `options` are OpenSeadragon's, beside those that hold for all. */
export function openSlide(element, dzi, label, options) {
  const viewer = OpenSeadragon({
    element,
    tileSources: dzi,
    showNavigationControl: false,
    maxZoomPixelRatio: 4,
    timeout: 60000,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    tabIndex: 0,
    ...options,
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", label);
  return viewer;
}

/** Return the seconds of a movement: none for who asked for less motion. */
export const seconds = (usual) =>
  matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : usual;

/** Return screen pixels per level-0 pixel. */
export const imageZoom = (viewer) =>
  viewer.viewport.viewportToImageZoom(viewer.viewport.getZoom(true));

/** Let a scale bar say how long it is. */
export function showScaleBar(element, micrometresPerPixel, most) {
  const bar = scaleBarLength(micrometresPerPixel, most);
  element.hidden = false;
  element.setAttribute("aria-label", bar.label);
  element.firstElementChild.style.width = `${bar.pixels}px`;
  if (element.firstChild.nodeType !== Node.TEXT_NODE) element.prepend("");
  element.firstChild.textContent = bar.label;
}

/** Say the magnification, and press the button of it. */
export function showPower(output, buttons, zoom, mpp) {
  const power = powerOf(zoom, mpp);
  output.textContent = `${power < 10 ? power.toFixed(1) : Math.round(power)}×`;
  for (const button of buttons) {
    const isNow = Math.abs(power / Number(button.dataset.power) - 1) < 0.02;
    button.setAttribute("aria-pressed", String(isNow));
  }
}

/** Return the box of a place, with its number. */
export function numberedBox(number) {
  const element = Object.assign(document.createElement("div"), { className: "tissue-box" });
  element.append(Object.assign(document.createElement("span"), { textContent: number }));
  return element;
}
