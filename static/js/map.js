// The map of the archive: points by map-points.js, groups, lasso, selection, card.

import { Points } from "./map-points.js";

// Okabe and Ito, told apart by all common kinds of colour vision; the rest of the groups is grey.
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00"];
const GREY = "#9a9aa5";
const LISTED = 100;
const COHORT_MOST = 500; // what one form may carry

const $ = (id) => document.getElementById(id);
const shell = $("map");
const stage = $("map-stage");
const map = { selected: new Set(), hidden: new Set() };
window.archiveMap = map; // for tests and other scripts of the page

const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const idOf = (i) => hex(map.ids.subarray(16 * i, 16 * i + 16)).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
const address = (template, i) => template.replace("00000000-0000-0000-0000-000000000000", idOf(i));
const codes = () => map.codes[$("map-colour").value];
const colourOf = (code) => PALETTE[code] ?? GREY;
const isShown = (i) => !map.hidden.has(codes()[i]);

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const n = head.count;
  let at = 4 + length;
  const take = (kind, size, count) => {
    const part = buffer.slice(at, at + size * count);
    at += size * count;
    return new kind(part);
  };
  Object.assign(map, { n, head, x: take(Float32Array, 4, n), y: take(Float32Array, 4, n), codes: {} });
  for (const name of head.colours) map.codes[name] = take(Uint16Array, 2, n);
  map.ids = take(Uint8Array, 16, n);
}

function fit() {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < map.n; i++) {
    left = Math.min(left, map.x[i]);
    right = Math.max(right, map.x[i]);
    low = Math.min(low, map.y[i]);
    high = Math.max(high, map.y[i]);
  }
  const shape = stage.clientHeight / Math.max(stage.clientWidth, 1);
  const half = Math.max((high - low) / 2, ((right - left) / 2) * shape, 0.05) * 1.08;
  map.view = { x: (left + right) / 2, y: (low + high) / 2, half };
  draw();
}

let isWaiting = false;
function draw() {
  if (!map.points || isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    map.points.draw(map.view);
    stage.dataset.drawn = map.n; // for tests
  });
}

function paint() {
  if (map.points) {
    const colours = new Uint8Array(4 * map.n);
    const states = new Uint8Array(map.n);
    const parsed = [...PALETTE, GREY].map((text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16)));
    const group = codes();
    for (let i = 0; i < map.n; i++) {
      colours.set(parsed[Math.min(group[i], PALETTE.length)], 4 * i);
      states[i] = !isShown(i) ? 0 : map.selected.has(i) ? 2 : 1;
    }
    map.points.set("colours", colours);
    map.points.set("states", states);
  }
  draw();
}

// --- groups --------------------------------------------------------------------------------------

function legend() {
  const group = codes();
  const labels = map.head.labels[$("map-colour").value];
  const counts = new Uint32Array(labels.length);
  for (const code of group) counts[code] += 1;
  const body = $("map-legend");
  body.replaceChildren(
    ...labels.slice(0, LISTED).map((label, code) => {
      const row = document.createElement("tr");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
      box.setAttribute("aria-label", label);
      box.addEventListener("change", () => {
        box.checked ? map.hidden.delete(code) : map.hidden.add(code);
        paint();
      });
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("class", "map-swatch");
      swatch.setAttribute("viewBox", "0 0 10 10");
      swatch.innerHTML = `<circle cx="5" cy="5" r="5" fill="${colourOf(code)}"/>`;
      const button = Object.assign(document.createElement("button"), { type: "button", className: "button-small button-quiet" });
      button.textContent = body.dataset.selectLabel;
      button.setAttribute("aria-label", `${body.dataset.selectLabel}: ${label}`);
      button.addEventListener("click", () => select(group.reduce((all, c, i) => (c === code && all.push(i), all), [])));
      for (const [part, name] of [[box, ""], [label, "label"], [counts[code].toLocaleString(), "num"], [button, ""]]) {
        const cell = document.createElement("td");
        if (name === "label") cell.append(swatch);
        else if (name) cell.className = name;
        cell.append(part);
        row.append(cell);
      }
      return row;
    }),
  );
}
$("map-colour").addEventListener("change", () => {
  map.hidden.clear();
  legend();
  paint();
});

// --- selection -----------------------------------------------------------------------------------

const saidOf = (i) => map.head.colours.slice(0, 2).map((name) => map.head.labels[name][map.codes[name][i]]).join(" · ");
const told = $("map-chosen").textContent;

function select(points) {
  map.selected = new Set(points);
  $("map-chosen").textContent = points.length ? `${points.length.toLocaleString()} / ${map.n.toLocaleString()}` : told;
  $("map-chosen-list").replaceChildren(
    ...points.slice(0, LISTED).map((i) => {
      const item = document.createElement("li");
      item.append(Object.assign(document.createElement("a"), { href: address(shell.dataset.slide, i), textContent: saidOf(i) }));
      return item;
    }),
  );
  const form = $("map-cohort");
  if (form) {
    form.hidden = !points.length;
    for (const old of form.querySelectorAll("[name=slide_image]")) old.remove();
    for (const i of points.slice(0, COHORT_MOST))
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name: "slide_image", value: idOf(i) }));
  }
  paint();
}

/** Return map coordinates of a point of the stage. */
function place(px, py) {
  const unit = (2 * map.view.half) / stage.clientHeight;
  return [map.view.x + (px - stage.clientWidth / 2) * unit, map.view.y - (py - stage.clientHeight / 2) * unit];
}

function within(polygon) {
  const found = [];
  for (let i = 0; i < map.n; i++) {
    if (!isShown(i)) continue;
    let inside = false;
    for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
      const [[ax, ay], [bx, by]] = [polygon[a], polygon[b]];
      if (ay > map.y[i] !== by > map.y[i] && map.x[i] < ((bx - ax) * (map.y[i] - ay)) / (by - ay) + ax) inside = !inside;
    }
    if (inside) found.push(i);
  }
  return found;
}

function nearest(px, py) {
  const [x, y] = place(px, py);
  const reach = (map.view.half / stage.clientHeight) * 16;
  let [best, least] = [-1, reach * reach];
  for (let i = 0; i < map.n; i++) {
    const [dx, dy] = [map.x[i] - x, map.y[i] - y];
    const away = dx * dx + dy * dy;
    if (away < least && isShown(i)) [best, least] = [i, away];
  }
  return best;
}

function showCard(i) {
  const card = $("map-card");
  card.hidden = i < 0;
  if (i < 0 || card.dataset.shown === String(i)) return;
  card.dataset.shown = i;
  card.querySelector("a").href = address(shell.dataset.slide, i);
  card.querySelector("img").src = address(shell.dataset.thumbnail, i);
  card.querySelector("p").textContent = saidOf(i);
}

// --- pointer and keys ------------------------------------------------------------------------------

let drag = null;
const spot = (event) => {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const lassoButton = document.querySelector("[data-act=lasso]");
const isLasso = () => lassoButton.getAttribute("aria-pressed") === "true";
const setLasso = (on) => {
  lassoButton.setAttribute("aria-pressed", String(on));
  stage.classList.toggle("is-lasso", on);
};
const line = $("map-lasso").firstElementChild;

stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest("#map-card")) return;
  stage.setPointerCapture(event.pointerId);
  drag = { from: spot(event), view: { ...map.view }, lasso: isLasso() || event.shiftKey ? [spot(event)] : null, moved: false };
});
stage.addEventListener("pointermove", (event) => {
  const at = spot(event);
  if (!drag) return event.target.closest("#map-card") ? undefined : showCard(nearest(...at));
  drag.moved ||= Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > 3;
  if (drag.lasso) {
    drag.lasso.push(at);
    line.setAttribute("points", drag.lasso.map((point) => point.join(",")).join(" "));
  } else {
    const unit = (2 * drag.view.half) / stage.clientHeight;
    map.view.x = drag.view.x - (at[0] - drag.from[0]) * unit;
    map.view.y = drag.view.y + (at[1] - drag.from[1]) * unit;
    draw();
  }
});
stage.addEventListener("pointerup", (event) => {
  if (!drag) return;
  if (drag.lasso?.length > 2) {
    select(within(drag.lasso.map((point) => place(...point))));
    setLasso(false);
  } else if (!drag.moved) showCard(nearest(...spot(event)));
  line.setAttribute("points", "");
  drag = null;
});
const zoom = (by, at = [stage.clientWidth / 2, stage.clientHeight / 2]) => {
  const before = place(...at);
  map.view.half = Math.min(20, Math.max(0.002, map.view.half * by));
  const after = place(...at);
  map.view.x += before[0] - after[0];
  map.view.y += before[1] - after[1];
  draw();
};
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(event.deltaY * 0.0015), spot(event));
}, { passive: false });

const acts = {
  in: () => zoom(1 / 1.5),
  out: () => zoom(1.5),
  fit,
  lasso: () => setLasso(!isLasso()),
  clear: () => select([]),
};
shell.addEventListener("click", (event) => acts[event.target.closest("[data-act]")?.dataset.act]?.());
const move = (x, y) => {
  map.view.x += x * map.view.half * 0.2;
  map.view.y += y * map.view.half * 0.2;
  draw();
};
const keys = {
  ArrowLeft: () => move(-1, 0),
  ArrowRight: () => move(1, 0),
  ArrowUp: () => move(0, 1),
  ArrowDown: () => move(0, -1),
  "+": acts.in,
  "-": acts.out,
  0: fit,
  l: acts.lasso,
  Escape: () => (setLasso(false), select([])),
};
stage.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});

// --- start -----------------------------------------------------------------------------------------

try {
  const answer = await fetch(shell.dataset.points, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(answer.status);
  unpack(await answer.arrayBuffer());
  const { made, model } = map.head;
  $("map-said").textContent = map.n ? `${map.n.toLocaleString()} · ${model} · ${made}` : "";
  $("map-empty").hidden = Boolean(map.n);
  shell.hidden = !map.n;
  if (map.n) {
    try {
      map.points = new Points($("map-canvas"), map.x, map.y);
    } catch {
      $("map-no-gl").hidden = false;
    }
    legend();
    fit();
    paint();
    new ResizeObserver(draw).observe(stage);
  }
} catch {
  $("map-said").textContent = "";
  $("map-failed").hidden = false;
}
