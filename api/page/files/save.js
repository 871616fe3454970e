// Files on their way out: saved, or copied to the clipboard.

const HELD_MILLISECONDS = 60_000; // for the browser to read it

/** @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), HELD_MILLISECONDS);
}

/** Rejects where the browser does not allow it: only pages under https and of this machine may. @param {Blob} blob */
export async function copyPicture(blob) {
  const png = blob.type === "image/png" ? blob : asPng(blob); // clipboards take nothing else
  await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
}

/** @param {Blob} blob @returns {Promise<Blob>} */
async function asPng(blob) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.convertToBlob({ type: "image/png" });
}
