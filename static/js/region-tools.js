// Drawing by mouse, pen or finger: each tool turns presses, drags and clicks into points.

import { corners, simplified } from "./region-shapes.js";

const POINTS_MOST = 2000;

export class RegionTools {
  /** done(kind, points): what was drawn. changed(tool): which tool is in the hand, or "". */
  constructor(viewer, slide, layer, { done, changed }) {
    Object.assign(this, { viewer, slide, layer, done, changed, tool: "", points: [] });
    viewer.addHandler("canvas-press", (event) => this.press(event));
    viewer.addHandler("canvas-drag", (event) => this.drag(event));
    viewer.addHandler("canvas-drag-end", (event) => this.release(event));
    viewer.addHandler("canvas-click", (event) => this.click(event));
    viewer.addHandler("canvas-double-click", (event) => {
      if (!this.tool) return;
      event.preventDefaultAction = true;
      if (this.tool === "polygon") this.finish();
    });
    viewer.canvas.addEventListener("pointermove", (event) => this.hover(event));
  }

  take(tool) {
    this.tool = this.tool === tool ? "" : tool;
    this.points = [];
    this.layer.draw([], false);
    this.changed(this.tool);
  }

  /** Return the level-0 pixel under a point of the viewer, inside the slide. */
  at(position) {
    const place = this.viewer.viewport.viewerElementToImageCoordinates(position);
    const inside = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
    return [inside(place.x, this.slide.width), inside(place.y, this.slide.height)];
  }

  press(event) {
    if (this.tool && this.tool !== "polygon") this.points = [this.at(event.position)];
  }

  drag(event) {
    if (!this.tool) return;
    event.preventDefaultAction = true;
    if (this.tool === "polygon" || !this.points.length) return;
    const here = this.at(event.position);
    if (this.tool === "freehand") this.points.push(here);
    else this.points = [this.points[0], here];
    const shape = this.tool === "rectangle" ? corners(...this.points) : this.points;
    this.layer.draw(shape, this.tool === "rectangle");
  }

  release(event) {
    if (!this.tool) return;
    event.preventDefaultAction = true;
    if (this.tool !== "polygon") this.finish();
  }

  click(event) {
    if (!this.tool) return;
    event.preventDefaultAction = true;
    if (this.tool !== "polygon" || !event.quick) return;
    this.points.push(this.at(event.position));
    this.layer.draw(this.points, false);
  }

  hover(event) {
    if (this.tool !== "polygon" || !this.points.length) return;
    const frame = this.viewer.canvas.getBoundingClientRect();
    const here = new OpenSeadragon.Point(event.clientX - frame.left, event.clientY - frame.top);
    this.layer.draw([...this.points, this.at(here)], true);
  }

  /** Take what was drawn, when it is something. */
  finish() {
    const { tool } = this;
    let { points } = this;
    if (tool === "rectangle" && points.length === 2) points = corners(...points);
    if (tool === "freehand" && points.length > 2) {
      // Half a pixel of the screen, so that nothing changes to the eye; more, if there are too many.
      const zoom = this.viewer.viewport.viewportToImageZoom(this.viewer.viewport.getZoom(true));
      let tolerance = 0.5 / zoom;
      const all = points;
      for (points = simplified(all, tolerance); points.length > POINTS_MOST; ) {
        points = simplified(all, (tolerance *= 2));
      }
    }
    const same = (a, b) => a[0] === b[0] && a[1] === b[1];
    points = points.filter((point, i) => !i || !same(point, points[i - 1]));
    const needed = tool === "line" ? 2 : 3;
    this.take(tool); // put down
    if (points.length >= needed) this.done(tool, points);
  }
}
