// Pictures read from files: as photos, as masks, and for their transparent parts.

import { t } from "../i18n/index.js";
import { Mask } from "../mask/mask.js";

const STRIP_PIXELS = 4 * 1024 * 1024; // as much of a picture as is read at once
const LIGHT = 127.5; // from this luminance on, a mask's pixel is hole, as the service has it
const OPAQUE = 128; // below this alpha, a pixel is transparent, as the service has it

/** @param {Blob} blob @param {string} name @returns {Promise<ImageBitmap>} Upright. */
export async function decode(blob, name) {
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new Error(t().cannotOpen(name));
  }
}

/**
 * The light parts of a picture. Where it says nothing by its light, its transparent parts are the hole.
 * @param {ImageBitmap} picture @returns {Mask}
 */
export function maskOf(picture) {
  const { light, clear } = scan(picture);
  const telling = !light.empty && light.data.includes(0);
  return telling || clear.empty ? light : clear;
}

/** The transparent parts of a photo; null when there are none. @param {ImageBitmap} picture @returns {Mask | null} */
export function transparentOf(picture) {
  const { clear } = scan(picture);
  return clear.empty ? null : clear;
}

/** Whether a picture has hardly anything but black and white, as masks have. @param {ImageBitmap} picture */
export async function looksLikeMask(picture) {
  const small = new OffscreenCanvas(64, 64);
  const context = small.getContext("2d");
  if (!context) return false;
  context.imageSmoothingEnabled = false; // grey from averaging would not be the picture's
  context.drawImage(picture, 0, 0, 64, 64);
  const { data } = context.getImageData(0, 0, 64, 64);
  let pure = 0;
  for (let i = 0; i < data.length; i += 4) {
    const [r = 0, g = 0, b = 0] = data.subarray(i, i + 3);
    if (Math.max(r, g, b) < 12 || Math.min(r, g, b) > 243) pure++;
  }
  return pure > 0.95 * 64 * 64;
}

/** @param {ImageBitmap} picture @returns {{light: Mask, clear: Mask}} */
function scan(picture) {
  const { width, height } = picture;
  const [light, clear] = [new Mask(width, height), new Mask(width, height)];
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser has no canvas to draw on.");
  for (let top = 0; top < height; top += rows) {
    context.clearRect(0, 0, width, rows);
    context.drawImage(picture, 0, -top);
    const pixels = context.getImageData(0, 0, width, rows).data;
    const count = Math.min(rows, height - top) * width;
    for (let i = 0; i < count; i++) {
      const alpha = pixels[4 * i + 3] ?? 0;
      const colour =
        0.299 * (pixels[4 * i] ?? 0) + 0.587 * (pixels[4 * i + 1] ?? 0) + 0.114 * (pixels[4 * i + 2] ?? 0);
      if ((colour * alpha) / 255 >= LIGHT) light.data[top * width + i] = 255;
      if (alpha < OPAQUE) clear.data[top * width + i] = 255;
    }
  }
  return { light, clear };
}
