// Small pictures of large ones, made once.

const SIDE_PIXELS = 112;

/** @type {WeakMap<Blob, Promise<string>>} Addresses of small pictures. */
const made = new WeakMap();

/** Show a small copy of a picture; nothing when the browser cannot. @param {HTMLImageElement} image @param {Blob} blob */
export function showSmall(image, blob) {
  let address = made.get(blob);
  if (!address) made.set(blob, (address = shrink(blob)));
  address.then((found) => (image.src = found), () => {});
}

/** @param {Blob} blob @returns {Promise<string>} */
async function shrink(blob) {
  const whole = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const share = Math.min(1, SIDE_PIXELS / Math.min(whole.width, whole.height));
  const [width, height] = [Math.max(1, Math.round(whole.width * share)), Math.max(1, Math.round(whole.height * share))];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (context) context.imageSmoothingQuality = "high";
  context?.drawImage(whole, 0, 0, width, height);
  whole.close();
  return URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" }));
}
