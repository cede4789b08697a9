// The kinds of tissue that a slide is searched by: boxes on the slide, one after the other by key,
// and how much each patch belongs to the chosen kind.

import { numberedBox } from "./slide-view.js";

const panel = document.getElementById("places");
const viewer = window.slideViewer;
const list = document.getElementById("places-list");
const shown = document.getElementById("places-shown");
const spread = document.getElementById("places-spread");
const opacity = document.getElementById("places-opacity");
const said = document.getElementById("places-said");

let places = [];
let boxes = [];
let chosen = -1;
let canvas = null;

const rectangle = (place) =>
  viewer.viewport.imageToViewportRectangle(place.x_l0, place.y_l0, place.size_l0, place.size_l0);

function drawBoxes() {
  boxes.forEach((element, index) => {
    viewer.removeOverlay(element);
    element.classList.toggle("is-chosen", index === chosen);
    element.style.opacity = opacity.value / 100;
    if (shown.checked || index === chosen)
      viewer.addOverlay({ element, location: rectangle(places[index]) });
  });
}

function choose(index) {
  chosen = index;
  [...list.querySelectorAll("button")].forEach((button, at) =>
    button.setAttribute("aria-pressed", String(at === chosen)),
  );
  drawBoxes();
  if (chosen < 0) return;
  const place = places[chosen];
  const margin = place.size_l0 * 1.5;
  viewer.viewport.fitBoundsWithConstraints(
    viewer.viewport.imageToViewportRectangle(
      place.x_l0 - margin,
      place.y_l0 - margin,
      place.size_l0 + 2 * margin,
      place.size_l0 + 2 * margin,
    ),
  );
  if (spread.checked) showSpread();
}

const step = (by) => places.length && choose((chosen + by + places.length) % places.length);

// --- where a kind is found -----------------------------------------------------------------------

/** Return the colour of a weight from 0 to 1: one hue from light to dark, as the legend has it. */
const colour = (weight) => `rgba(${Math.round(253 - 171 * weight)}, ${Math.round(187 - 180 * weight)}, ${Math.round(45 + 60 * weight)}, ${0.25 + 0.75 * weight})`;

function clearSpread() {
  if (canvas) viewer.removeOverlay(canvas);
  canvas = null;
  said.textContent = "";
}

async function showSpread() {
  clearSpread();
  if (!spread.checked || !panel.dataset.attention) return;
  if (chosen < 0) return choose(0);
  const token = places[chosen].token;
  const answer = await fetch(`${panel.dataset.attention}?token=${token}`, {
    headers: { Accept: "application/json" },
  });
  const body = await answer.json();
  if (!answer.ok) {
    said.textContent = body.detail;
    return;
  }
  if (token !== places[chosen]?.token || !spread.checked) return; // another was chosen meanwhile
  const columns = body.x_l0.map((x) => Math.round(x / body.size_l0));
  const rows = body.y_l0.map((y) => Math.round(y / body.size_l0));
  const most = Math.max(...body.weight);
  canvas = document.createElement("canvas");
  canvas.className = "tissue-spread";
  canvas.width = Math.max(...columns) + 1;
  canvas.height = Math.max(...rows) + 1;
  const context = canvas.getContext("2d");
  body.weight.forEach((weight, index) => {
    context.fillStyle = colour(weight / most);
    context.fillRect(columns[index], rows[index], 1, 1);
  });
  canvas.style.opacity = opacity.value / 100;
  viewer.addOverlay({
    element: canvas,
    location: viewer.viewport.imageToViewportRectangle(
      0,
      0,
      canvas.width * body.size_l0,
      canvas.height * body.size_l0,
    ),
  });
}

// --- wiring ----------------------------------------------------------------------------------------

shown.addEventListener("change", drawBoxes);
spread.addEventListener("change", showSpread);
opacity.addEventListener("input", () => {
  drawBoxes();
  if (canvas) canvas.style.opacity = opacity.value / 100;
});
list.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(Number(button.dataset.index));
});
viewer.addHandler("canvas-key", (event) => {
  const original = event.originalEvent;
  if (original.ctrlKey || original.altKey || original.metaKey) return;
  const key = original.key.toLowerCase();
  if (key === "g") {
    shown.checked = !shown.checked;
    drawBoxes();
  } else if (key === "n") step(1);
  else if (key === "p") step(-1);
  else return;
  event.preventDefaultAction = true;
});

async function load() {
  const answer = await fetch(panel.dataset.places, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  places = (await answer.json()).places;
  document.getElementById("places-none").hidden = places.length > 0;
  document.getElementById("places-some").hidden = places.length === 0;
  list.replaceChildren(
    ...places.map((place, index) => {
      const item = document.createElement("li");
      const button = Object.assign(document.createElement("button"), {
        type: "button",
        className: "button-small",
        textContent: `${index + 1} · ${(100 * place.share).toFixed(1)} %`,
      });
      button.dataset.index = index;
      button.setAttribute("aria-pressed", "false");
      item.append(button);
      return item;
    }),
  );
  boxes = places.map((place, index) => numberedBox(index + 1));
  drawBoxes();
}
if (viewer.isOpen()) load();
else viewer.addOnceHandler("open", load);
