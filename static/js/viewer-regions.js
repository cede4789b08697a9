// Regions and measurements: drawn, listed, named, removed, and taken as the box of a search.

import { RegionLayer } from "./region-layer.js";
import { areaText, bounds, corners, lengthText } from "./region-shapes.js";
import { RegionTools } from "./region-tools.js";

const section = document.getElementById("regions");
const viewer = window.slideViewer;
if (section && viewer) start();

function start() {
  const shell = document.getElementById("viewer-shell");
  const slide = { width: Number(shell.dataset.width), height: Number(shell.dataset.height) };
  const list = document.getElementById("regions-list");
  const said = document.getElementById("regions-said");
  const item = document.getElementById("region-item").content;
  const layer = new RegionLayer(viewer);
  let regions = [];
  let box = null;

  const tools = new RegionTools(viewer, slide, layer, {
    done: (kind, points) => keep(kind, points),
    changed: (tool) => {
      document.getElementById("viewer").classList.toggle("is-drawing", Boolean(tool));
      for (const button of document.querySelectorAll("[data-region-tool]")) {
        button.setAttribute("aria-pressed", String(button.dataset.regionTool === tool));
      }
      say(tool === "polygon" ? said.dataset.polygon : "");
    },
  });

  // --- the server --------------------------------------------------------------------------------

  async function ask(method, path = "", body = undefined) {
    const csrf = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRFToken"];
    const answer = await fetch(section.dataset.regions + path, {
      method,
      headers: { "X-CSRFToken": csrf, "Content-Type": "application/json", Accept: "application/json" },
      body: body && JSON.stringify(body),
    });
    const told = answer.status === 204 ? null : await answer.json();
    if (!answer.ok) throw new Error(told.detail ?? section.dataset.failed);
    return told;
  }

  const say = (text) => (said.textContent = text);
  const failed = (error) => say(error.message || section.dataset.failed);

  async function load() {
    const found = [];
    for (let path = "?page_size=100"; path; ) {
      const told = await ask("GET", path);
      found.push(...told.results);
      path = told.next ? new URL(told.next).search : "";
    }
    regions = found;
    show();
  }

  async function keep(kind, points) {
    try {
      const region = await ask("POST", "", { kind, points });
      regions.push(region);
      show();
      edit(region.id);
    } catch (error) {
      failed(error);
    }
  }

  // --- the list ----------------------------------------------------------------------------------

  function show() {
    layer.show(regions);
    list.replaceChildren(...regions.map(row));
    document.getElementById("regions-none").hidden = regions.length > 0;
  }

  function row(region) {
    const part = item.cloneNode(true).firstElementChild;
    const of = (name) => part.querySelector(`[data-region-${name}]`);
    part.dataset.id = region.id;
    of("name").textContent = region.name || section.dataset[region.kind];
    of("measure").textContent =
      region.area_um2 === null
        ? lengthText(region.length_um)
        : `${areaText(region.area_um2)} · ${lengthText(region.length_um)}`;
    of("author").textContent = region.is_mine ? "" : region.author;
    of("note").textContent = region.note;
    for (const name of ["edit", "remove"]) of(name).hidden = !region.is_mine;
    const search = of("search");
    if (search) search.hidden = region.kind === "line";
    return part;
  }

  const regionOf = (element) =>
    regions.find((region) => region.id === element.closest("[data-id]")?.dataset.id);

  function choose(region) {
    layer.choose(region.id);
    for (const part of list.children) {
      part.toggleAttribute("data-chosen", part.dataset.id === region.id);
    }
  }

  function jump(region) {
    choose(region);
    const around = bounds(region.points);
    const margin = Math.max(around.width, around.height, 50) * 0.4;
    viewer.viewport.fitBoundsWithConstraints(
      viewer.viewport.imageToViewportRectangle(
        around.x - margin,
        around.y - margin,
        around.width + 2 * margin,
        around.height + 2 * margin,
      ),
    );
  }

  function edit(id) {
    const part = [...list.children].find((one) => one.dataset.id === id);
    const region = regions.find((one) => one.id === id);
    const form = part.querySelector("form");
    choose(region);
    form.hidden = false;
    form.elements.name.value = region.name;
    form.elements.note.value = region.note;
    form.elements.name.focus();
  }

  list.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    const region = button && regionOf(button);
    if (!region) return;
    if ("regionName" in button.dataset) jump(region);
    else if ("regionEdit" in button.dataset) edit(region.id);
    else if ("regionCancel" in button.dataset) {
      button.form.hidden = true;
      button.closest("[data-id]").querySelector("[data-region-edit]").focus();
    } else if ("regionSearch" in button.dataset) {
      jump(region);
      document.dispatchEvent(new CustomEvent("box-wanted", { detail: bounds(region.points) }));
    } else if ("regionRemove" in button.dataset) {
      if (!confirm(section.dataset.sure)) return;
      try {
        await ask("DELETE", `${region.id}/`);
        regions = regions.filter((one) => one !== region);
        show();
        section.querySelector("h2").focus();
        say(section.dataset.removed);
      } catch (error) {
        failed(error);
      }
    }
  });

  list.addEventListener("submit", async (event) => {
    event.preventDefault();
    const region = regionOf(event.target);
    const { name, note } = Object.fromEntries(new FormData(event.target));
    try {
      const told = await ask("PATCH", `${region.id}/`, { name, note, updated_at: region.updated_at });
      regions = regions.map((one) => (one === region ? told : one));
      show();
      choose(told);
      list.querySelector(`[data-id="${told.id}"] [data-region-name]`).focus();
      say(section.dataset.kept);
    } catch (error) {
      failed(error);
    }
  });

  // --- tools and keys ------------------------------------------------------------------------------

  for (const button of document.querySelectorAll("[data-region-tool]")) {
    button.addEventListener("click", () => tools.take(button.dataset.regionTool));
  }
  document.addEventListener("region-chosen", (event) => {
    box = event.detail;
    const button = document.getElementById("box-keep");
    if (button) button.hidden = !box;
  });
  document.getElementById("box-keep")?.addEventListener("click", () => {
    if (box) keep("rectangle", corners([box.x, box.y], [box.x + box.width, box.y + box.height]));
  });
  document.getElementById("regions-shown").addEventListener("change", (event) => {
    layer.isHidden = !event.target.checked;
  });
  const letters = { r: "rectangle", y: "polygon", h: "freehand", m: "line" };
  viewer.addHandler("canvas-key", (event) => {
    const { key, ctrlKey, altKey, metaKey } = event.originalEvent;
    if (ctrlKey || altKey || metaKey) return;
    const tool = letters[key.toLowerCase()];
    if (tool && document.querySelector(`[data-region-tool=${tool}]`)) tools.take(tool);
    else if (tools.tool && key === "Enter") tools.finish();
    else if (tools.tool && key === "Escape") tools.take(tools.tool);
    else return;
    event.preventDefaultAction = true;
  });
  load().catch(failed);
}
