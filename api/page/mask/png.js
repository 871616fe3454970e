// A mask as a PNG file: 8-bit grey, compressed off the main thread. A canvas would need four bytes per pixel, which
// phones do not give for large photos.

import { crc32 } from "../files/crc32.js";
import { Mask } from "./mask.js";

const ROWS = 256;

/** @param {Mask} mask @returns {Promise<Blob>} */
export async function pngOf(mask) {
  const { width, height, data } = mask;
  const deflate = new CompressionStream("deflate");
  const compressed = new Response(deflate.readable).arrayBuffer();
  const writer = deflate.writable.getWriter();
  for (let top = 0; top < height; top += ROWS) {
    const rows = Math.min(ROWS, height - top);
    const lines = new Uint8Array(rows * (width + 1)); // each row begins with the number of its filter: 0, none
    for (let row = 0; row < rows; row++) {
      const at = (top + row) * width;
      lines.set(data.subarray(at, at + width), row * (width + 1) + 1);
    }
    await writer.write(lines);
  }
  await writer.close();
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 0, 0, 0, 0], 8); // 8 bits, grey, and the only methods there are
  const signature = new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const parts = [signature, chunk("IHDR", header), chunk("IDAT", new Uint8Array(await compressed))];
  return new Blob([...parts, chunk("IEND", new Uint8Array())], { type: "image/png" });
}

/** @param {string} name @param {Uint8Array} data @returns {Uint8Array<ArrayBuffer>} */
function chunk(name, data) {
  const out = new Uint8Array(data.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  out.set(new TextEncoder().encode(name), 4);
  out.set(data, 8);
  view.setUint32(data.length + 8, crc32(out.subarray(4, data.length + 8)));
  return out;
}
