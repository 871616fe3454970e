// Distances in a grid: Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions" (2012).

const FAR = 1e12; // more than any squared distance in a picture

/**
 * How far each cell is from the nearest cell with `value`.
 * @param {Uint8Array} cells @param {number} width @param {number} height @param {number} value
 * @returns {Float32Array} Cells; 0 where the value is.
 */
export function distanceTo(cells, width, height, value) {
  const out = new Float32Array(width * height);
  for (let i = 0; i < out.length; i++) out[i] = cells[i] === value ? 0 : FAR;
  const longest = Math.max(width, height);
  const line = new Float64Array(longest);
  const result = new Float64Array(longest);
  const lowest = new Int32Array(longest);
  const borders = new Float64Array(longest + 1);
  const alongs = [
    { count: width, length: height, first: 1, step: width },
    { count: height, length: width, first: width, step: 1 },
  ];
  for (const { count, length, first, step } of alongs) {
    for (let n = 0; n < count; n++) {
      for (let i = 0; i < length; i++) line[i] = out[n * first + i * step] ?? 0;
      transform(line, length, result, lowest, borders);
      for (let i = 0; i < length; i++) out[n * first + i * step] = result[i] ?? 0;
    }
  }
  for (let i = 0; i < out.length; i++) out[i] = Math.sqrt(out[i] ?? 0);
  return out;
}

/**
 * The lower envelope of the parabolas over one line.
 * @param {Float64Array} line @param {number} length @param {Float64Array} result
 * @param {Int32Array} lowest @param {Float64Array} borders
 */
function transform(line, length, result, lowest, borders) {
  let k = 0;
  lowest[0] = 0;
  borders[0] = -Infinity;
  borders[1] = Infinity;
  for (let q = 1; q < length; q++) {
    let s;
    for (;;) {
      const v = lowest[k] ?? 0;
      s = ((line[q] ?? 0) + q * q - (line[v] ?? 0) - v * v) / (2 * (q - v));
      if (s > (borders[k] ?? 0)) break;
      k--;
    }
    k++;
    lowest[k] = q;
    borders[k] = s;
    borders[k + 1] = Infinity;
  }
  k = 0;
  for (let q = 0; q < length; q++) {
    while ((borders[k + 1] ?? Infinity) < q) k++;
    const v = lowest[k] ?? 0;
    result[q] = (q - v) ** 2 + (line[v] ?? 0);
  }
}
