// A whole mask as the lengths of its runs: alternately outside and inside the hole, row after row. Small, quick to
// read back, and what the browser keeps of masks that are not made of strokes.

import { Mask } from "./mask.js";

/** @param {Mask} mask @returns {Uint8Array<ArrayBuffer>} Run lengths, seven bits per byte, low ones first. */
export function packed({ data }) {
  let bytes = new Uint8Array(4096);
  let used = 0;
  let wanted = 0;
  for (let at = 0; at < data.length; wanted = 255 - wanted) {
    const next = data.indexOf(255 - wanted, at);
    const end = next < 0 ? data.length : next;
    let length = end - at;
    if (used + 8 > bytes.length) {
      const larger = new Uint8Array(bytes.length * 2);
      larger.set(bytes);
      bytes = larger;
    }
    for (; length > 127; length = Math.floor(length / 128)) bytes[used++] = (length & 127) | 128;
    bytes[used++] = length;
    at = end;
  }
  return bytes.slice(0, used);
}

/** Replace all of a mask by what was packed. @param {Mask} mask @param {Uint8Array} bytes */
export function unpackInto({ data }, bytes) {
  let at = 0;
  let value = 0;
  for (let i = 0; i < bytes.length; value = 255 - value) {
    let length = 0;
    for (let weight = 1; ; weight *= 128) {
      const byte = bytes[i++] ?? 0;
      length += (byte & 127) * weight;
      if (byte < 128) break;
    }
    data.fill(value, at, at + length);
    at += length;
  }
}
