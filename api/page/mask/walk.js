// A random walk over a photo with priors: Grady, "Multilabel Random Walker Image Segmentation Using Prior Models", 2005.

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{across: Float32Array, down: Float32Array}} Links To the pixel to the right, and to the one below. */

const SWEEPS = 40; // of conjugate gradients, which start from the shares that are there
const TRUST = 0.03; // in the prior, against the links: about six pixels of smoothing where there is no edge
const CERTAIN = 100; // the same where the prior is no guess
const EDGE = 3; // how much a difference of colours keeps two pixels apart, by the photo's own mean difference
const LEAST_LINK = 1e-3; // so that noise leaves no pixel alone

/** How strongly each pixel holds to its neighbours to the right and below. @param {Float32Array} colours @param {Size} size @returns {Links} */
export function linksOf(colours, { width, height }) {
  const across = new Float32Array(width * height);
  const down = new Float32Array(width * height);
  let sum = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (x + 1 < width) sum += across[i] = difference(colours, i, i + 1);
      if (y + 1 < height) sum += down[i] = difference(colours, i, i + width);
    }
  }
  const scale = EDGE / (sum / (2 * width * height) + 1e-7);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      across[i] = x + 1 < width ? Math.exp(-scale * (across[i] ?? 0)) + LEAST_LINK : 0;
      down[i] = y + 1 < height ? Math.exp(-scale * (down[i] ?? 0)) + LEAST_LINK : 0;
    }
  }
  return { across, down };
}

/** @param {Float32Array} colours @param {number} i @param {number} j */
function difference(colours, i, j) {
  let sum = 0;
  for (let c = 0; c < 3; c++) sum += ((colours[3 * i + c] ?? 0) - (colours[3 * j + c] ?? 0)) ** 2;
  return sum;
}

/**
 * Bring the shares to the least of: differences along links, and distance to the prior. Conjugate gradients.
 * @param {Float32Array} share @param {Float32Array} prior @param {Float32Array} fixed Where the prior is no guess.
 * @param {Links} links @param {Size} size
 */
export function walk(share, prior, fixed, { across, down }, { width, height }) {
  const count = width * height;
  const hold = Float32Array.from(fixed, (value) => (value ? CERTAIN : TRUST));
  const product = (/** @type {Float32Array} */ x, /** @type {Float32Array} */ out) => {
    for (let i = 0; i < count; i++) out[i] = (hold[i] ?? 0) * (x[i] ?? 0);
    for (let i = 0; i < count; i++) {
      const a = across[i] ?? 0;
      const d = down[i] ?? 0;
      if (a) {
        const flow = a * ((x[i] ?? 0) - (x[i + 1] ?? 0));
        out[i] = (out[i] ?? 0) + flow;
        out[i + 1] = (out[i + 1] ?? 0) - flow;
      }
      if (d) {
        const flow = d * ((x[i] ?? 0) - (x[i + width] ?? 0));
        out[i] = (out[i] ?? 0) + flow;
        out[i + width] = (out[i + width] ?? 0) - flow;
      }
    }
  };
  const weight = new Float32Array(count); // the diagonal, to begin with
  for (let i = 0; i < count; i++) {
    const own = (hold[i] ?? 0) + (across[i] ?? 0) + (down[i] ?? 0);
    weight[i] = own + (i % width ? (across[i - 1] ?? 0) : 0) + (i >= width ? (down[i - width] ?? 0) : 0);
  }
  const rest = new Float32Array(count);
  const applied = new Float32Array(count);
  product(share, applied);
  for (let i = 0; i < count; i++) rest[i] = (hold[i] ?? 0) * (prior[i] ?? 0) - (applied[i] ?? 0);
  const direction = rest.map((value, i) => value / (weight[i] ?? 1));
  let energy = 0;
  for (let i = 0; i < count; i++) energy += (rest[i] ?? 0) * (direction[i] ?? 0);
  for (let sweep = 0; sweep < SWEEPS && energy > 1e-6; sweep++) {
    product(direction, applied);
    let curvature = 0;
    for (let i = 0; i < count; i++) curvature += (direction[i] ?? 0) * (applied[i] ?? 0);
    const step = energy / curvature;
    let next = 0;
    for (let i = 0; i < count; i++) {
      share[i] = (share[i] ?? 0) + step * (direction[i] ?? 0);
      rest[i] = (rest[i] ?? 0) - step * (applied[i] ?? 0);
      next += (rest[i] ?? 0) ** 2 / (weight[i] ?? 1);
    }
    for (let i = 0; i < count; i++) direction[i] = (rest[i] ?? 0) / (weight[i] ?? 1) + (next / energy) * (direction[i] ?? 0);
    energy = next;
  }
  for (let i = 0; i < count; i++) share[i] = Math.min(1, Math.max(0, share[i] ?? 0));
}
