// A ZIP file of files that are compressed already: stored as they are. APPNOTE.TXT 6.3.10, without its 64-bit parts.

import { t } from "../i18n/index.js";
import { crc32 } from "./crc32.js";

const LIMIT_BYTES = 0xffffffff;
const UTF8_NAMES = 0x0800;
const VERSION = 20;

/** @param {{name: string, blob: Blob}[]} files @param {Date} [now] @returns {Promise<Blob>} */
export async function zipOf(files, now = new Date()) {
  /** @type {BlobPart[]} */
  const parts = [];
  const directory = [];
  let at = 0;
  for (const { name, blob } of files) {
    const title = new TextEncoder().encode(name);
    const common = [
      [2, UTF8_NAMES],
      [2, 0], // stored
      [2, (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1)],
      [2, ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate()],
      [4, await checksum(blob)],
      [4, blob.size],
      [4, blob.size],
      [2, title.length],
      [2, 0],
    ];
    directory.push(record([4, 0x02014b50], [2, VERSION], [2, VERSION], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), title);
    const header = record([4, 0x04034b50], [2, VERSION], ...common);
    parts.push(header, title, blob);
    at += header.length + title.length + blob.size;
    if (at > LIMIT_BYTES) throw new Error(t().zipTooLarge);
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, at], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** @param {Blob} blob */
async function checksum(blob) {
  let value = 0;
  const reader = blob.stream().getReader();
  for (;;) {
    const { value: data, done } = await reader.read();
    if (done) return value;
    value = crc32(data, value);
  }
}

/** Little-endian numbers one after the other. @param {number[][]} fields Bytes and value of each. */
function record(...fields) {
  const out = new Uint8Array(fields.reduce((sum, [bytes = 0]) => sum + bytes, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const [bytes = 0, value = 0] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return out;
}
