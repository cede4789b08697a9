// Lengths and magnifications. Lengths in the address are level-0 pixels.

/** Return the magnification as on a microscope: 10x is 1 µm per screen pixel, by convention. */
export const powerOf = (screenPixelsPerPixel, mpp) => (10 * screenPixelsPerPixel) / mpp;

/** Return screen pixels per level-0 pixel of a magnification. */
export const zoomOfPower = (power, mpp) => (power * mpp) / 10;

/** Return the longest round length (1, 2 or 5 times a power of ten) that fits into `most` pixels. */
export function scaleBarLength(micrometresPerPixel, most) {
  const room = micrometresPerPixel * most;
  const decade = 10 ** Math.floor(Math.log10(room));
  const length = [5, 2, 1].map((step) => step * decade).find((candidate) => candidate <= room) ?? decade;
  const label = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(2))} µm`;
  return { micrometres: length, pixels: Math.round(length / micrometresPerPixel), label };
}

/** Return the place of an address fragment, or null where it names none inside the slide. */
export function parsePlace(fragment, slide) {
  const match = /^#l0=(\d+),(\d+),(\d+),(\d+)$/.exec(fragment);
  if (!match) return null;
  const [x, y, width, height] = match.slice(1).map(Number);
  const isInside = width > 0 && height > 0 && x < slide.width && y < slide.height;
  return isInside ? { x, y, width, height } : null;
}

/** Return the address fragment of a place. */
export const placeFragment = ({ x, y, width, height }) => `#l0=${x},${y},${width},${height}`;
