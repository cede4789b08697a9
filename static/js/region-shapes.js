// Geometry of regions: points are level-0 pixels, [x, y].

/** Return the points without those that lie within `tolerance` of the line between the others
 * (Ramer, Douglas and Peucker); a stack in place of recursion, for thousands of points. */
export function simplified(points, tolerance) {
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const spans = [[0, points.length - 1]];
  while (spans.length) {
    const [first, last] = spans.pop();
    let farthest = -1;
    let most = tolerance;
    for (let i = first + 1; i < last; i += 1) {
      const away = distance(points[i], points[first], points[last]);
      if (away > most) [farthest, most] = [i, away];
    }
    if (farthest > 0) {
      keep[farthest] = 1;
      spans.push([first, farthest], [farthest, last]);
    }
  }
  return points.filter((_, i) => keep[i]);
}

function distance([x, y], [ax, ay], [bx, by]) {
  const dx = bx - ax;
  const dy = by - ay;
  const square = dx * dx + dy * dy;
  const t = square ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / square)) : 0;
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}

/** Return the corners of the rectangle between two points, in order. */
export const corners = ([ax, ay], [bx, by]) => [
  [Math.min(ax, bx), Math.min(ay, by)],
  [Math.max(ax, bx), Math.min(ay, by)],
  [Math.max(ax, bx), Math.max(ay, by)],
  [Math.min(ax, bx), Math.max(ay, by)],
];

/** Return the box around points. */
export function bounds(points) {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
}

/** Return the length of a line in µm. */
export const lengthOf = ([[ax, ay], [bx, by]], mpp) => Math.hypot(bx - ax, by - ay) * mpp;

/** Return the points as an SVG path; a ring is closed. */
export const pathOf = (points, isClosed) =>
  points.length ? `M${points.map((point) => point.join(" ")).join("L")}${isClosed ? "Z" : ""}` : "";

const shown = (value) => Number(value.toPrecision(3)).toString();

/** Return a length as people read it. */
export const lengthText = (um) => (um >= 1000 ? `${shown(um / 1000)} mm` : `${shown(um)} µm`);

/** Return an area as people read it. */
export const areaText = (um2) => (um2 >= 1e5 ? `${shown(um2 / 1e6)} mm²` : `${shown(um2)} µm²`);
