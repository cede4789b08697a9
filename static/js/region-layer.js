// An SVG over the slide. Its points stand in level-0 pixels and are written once; when the view
// moves, one transform of the group changes, and lines keep their width on the screen.

import { pathOf } from "./region-shapes.js";

const SVG = "http://www.w3.org/2000/svg";
const make = (name) => document.createElementNS(SVG, name);

export class RegionLayer {
  constructor(viewer) {
    this.viewer = viewer;
    this.svg = make("svg");
    this.svg.setAttribute("class", "region-layer");
    this.svg.setAttribute("aria-hidden", "true"); // the list beside says the same in words
    this.group = make("g");
    this.sketch = make("path");
    this.sketch.setAttribute("class", "region-sketch");
    this.group.append(this.sketch);
    this.svg.append(this.group);
    viewer.canvas.append(this.svg);
    this.paths = new Map();
    const move = () => this.move();
    viewer.addHandler("update-viewport", move);
    viewer.addHandler("open", move);
    if (viewer.isOpen()) this.move();
  }

  /** Lay the group where the slide is now, turned as it is. */
  move() {
    const { viewport } = this.viewer;
    const at = (x, y) =>
      viewport.pixelFromPoint(viewport.imageToViewportCoordinates(x, y), true);
    const [origin, right, down] = [at(0, 0), at(1000, 0), at(0, 1000)];
    const part = (a, b) => (a - b) / 1000;
    this.group.setAttribute(
      "transform",
      `matrix(${part(right.x, origin.x)} ${part(right.y, origin.y)} ${part(down.x, origin.x)}` +
        ` ${part(down.y, origin.y)} ${origin.x} ${origin.y})`,
    );
  }

  /** Show these regions, and no others. */
  show(regions) {
    for (const path of this.paths.values()) path.remove();
    this.paths.clear();
    for (const region of regions) {
      const path = make("path");
      path.setAttribute("d", pathOf(region.points, region.kind !== "line"));
      path.setAttribute("class", `region-path is-${region.kind}`);
      this.group.insertBefore(path, this.sketch);
      this.paths.set(region.id, path);
    }
  }

  /** Make one stand out, or none. */
  choose(id) {
    for (const [key, path] of this.paths) path.classList.toggle("is-chosen", key === id);
  }

  /** Show what is being drawn. */
  draw(points, isClosed) {
    this.sketch.setAttribute("d", pathOf(points, isClosed));
  }

  set isHidden(value) {
    this.svg.classList.toggle("is-hidden", value);
  }
}
