// Pictures read from files: as photos, as masks, and for their transparent parts.

import { t } from "../i18n/index.js";
import { Mask } from "../mask/mask.js";

/** @typedef {{width: number, height: number}} Size */

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
 * @param {ImageBitmap} picture @param {Size} [size] Of the mask; the picture's own without it. @returns {Mask}
 */
export function maskOf(picture, size = picture) {
  const { light, clear } = scan(picture, size);
  const telling = !light.empty && light.data.includes(0);
  return telling || clear.empty ? light : clear;
}

/** The transparent parts of a photo; null when there are none. @param {ImageBitmap} picture @returns {Mask | null} */
export function transparentOf(picture) {
  const { clear } = scan(picture, picture);
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

/**
 * Whether a mask of this size can be used for a photo: some scale is within one pixel of both sides. The service has the
 * same rule, `mask_resize`.
 * @param {Size} mask @param {Size} photo
 */
export function isInProportion(mask, photo) {
  const [across, down] = [mask.width / photo.width, mask.height / photo.height];
  const [column, row] = [1 / photo.width, 1 / photo.height];
  return Math.max(across - column, down - row) <= Math.min(across + column, down + row);
}

/** @param {ImageBitmap} picture @param {Size} size Of the masks. @returns {{light: Mask, clear: Mask}} */
function scan(picture, { width, height }) {
  const [light, clear] = [new Mask(width, height), new Mask(width, height)];
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error(t().noCanvas);
  for (let top = 0; top < height; top += rows) {
    context.clearRect(0, 0, width, rows);
    context.drawImage(picture, 0, -top, width, height);
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
