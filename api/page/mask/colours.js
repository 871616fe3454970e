// What the colours of an object are, and those of the rest: two histograms.

const BINS = 16; // for each of three channels
const LEAST_RANGE = 0.15; // of a channel: less contrast is spread over fewer bins
const FLOOR = 1e-6; // of a histogram, so that no colour is impossible
const COMMON = 0.7; // of a part: how much of its colours is taken out of a mixture

/** Lightness and two colours, each from 0 to 1, without the finest noise. @param {Uint8ClampedArray} pixels @param {number} count */
export function opponent(pixels, count) {
  const out = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [0, 1, 2].map((channel) => Math.sqrt((pixels[4 * i + channel] ?? 0) / 255));
    if (r === undefined || g === undefined || b === undefined) continue;
    out[3 * i] = 0.3 * r + 0.6 * g + 0.1 * b;
    out[3 * i + 1] = 0.5 + 0.9 * (r - g);
    out[3 * i + 2] = 0.5 + 0.6 * (0.5 * (r + g) - b);
  }
  return out;
}

/** @param {Float32Array} colours @param {number} count @returns {Uint16Array} Which bin each pixel falls into. */
export function binsOf(colours, count) {
  const low = [1, 1, 1];
  const high = [0, 0, 0];
  for (let i = 0; i < 3 * count; i++) {
    low[i % 3] = Math.min(low[i % 3] ?? 0, colours[i] ?? 0);
    high[i % 3] = Math.max(high[i % 3] ?? 0, colours[i] ?? 0);
  }
  const out = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    let bin = 0;
    for (let c = 0; c < 3; c++) {
      const range = Math.max(LEAST_RANGE, (high[c] ?? 0) - (low[c] ?? 0));
      bin = bin * BINS + Math.min(BINS - 1, Math.floor((((colours[3 * i + c] ?? 0) - (low[c] ?? 0)) / range) * BINS));
    }
    out[i] = bin;
  }
  return out;
}

/**
 * How likely each colour is the object's.
 * @param {Uint16Array} bins @param {Float32Array} share Of the object in each pixel.
 * @param {"object" | "rest" | null} mixed Which of the two contains the other one too.
 */
export function oddsOf(bins, share, mixed) {
  const counts = { object: new Float32Array(BINS ** 3), rest: new Float32Array(BINS ** 3) };
  for (let i = 0; i < bins.length; i++) {
    const bin = bins[i] ?? 0;
    const part = share[i] ?? 0;
    counts.object[bin] = (counts.object[bin] ?? 0) + part;
    counts.rest[bin] = (counts.rest[bin] ?? 0) + 1 - part;
  }
  const [own, other] = [normal(smoothed(counts.object)), normal(smoothed(counts.rest))];
  const object = mixed === "object" ? without(own, other) : own;
  const rest = mixed === "rest" ? without(other, own) : other;
  return object.map((value, bin) => value / (value + (rest[bin] ?? 0)));
}

/** What is left of a mixture without one of its parts. @param {Float32Array} mixture @param {Float32Array} part */
function without(mixture, part) {
  const order = [...part.keys()].filter((bin) => (part[bin] ?? 0) > 2 * FLOOR);
  order.sort((a, b) => (mixture[a] ?? 0) / (part[a] ?? 1) - (mixture[b] ?? 0) / (part[b] ?? 1));
  let mass = 0;
  let most = 0;
  for (const bin of order) {
    mass += part[bin] ?? 0;
    most = (mixture[bin] ?? 0) / (part[bin] ?? 1);
    if (mass > COMMON) break;
  }
  return normal(mixture.map((value, bin) => Math.max(0, value - Math.min(1, most) * (part[bin] ?? 0))));
}

/** @param {Float32Array} counts @returns {Float32Array} */
function normal(counts) {
  const sum = counts.reduce((a, b) => a + b, 0) || 1;
  return counts.map((value) => value / sum + FLOOR);
}

/** Each bin shares with its neighbours. @param {Float32Array} counts */
function smoothed(counts) {
  for (const step of [1, BINS, BINS * BINS]) {
    const out = new Float32Array(counts.length);
    for (let i = 0; i < counts.length; i++) {
      const at = Math.floor(i / step) % BINS;
      const before = at > 0 ? (counts[i - step] ?? 0) : 0;
      const after = at < BINS - 1 ? (counts[i + step] ?? 0) : 0;
      out[i] = 0.5 * (counts[i] ?? 0) + 0.25 * (before + after);
    }
    counts = out;
  }
  return counts;
}
