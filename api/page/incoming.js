// Files on their way in: chosen, pasted or dropped, as a photo or as a mask.

import { byId, onClick, show } from "./dom.js";

/**
 * @param {{hasPhoto: () => boolean, photo: (file: File) => void, mask: (file: File) => void}} taker
 * hasPhoto: whether there is one that a dropped file could be the mask of.
 */
export function takeFiles(taker) {
  const photo = byId("photo-file", HTMLInputElement);
  const mask = byId("mask-file", HTMLInputElement);
  for (const id of ["choose-photo", "other-photo"]) onClick(id, () => photo.click());
  onClick("load-mask", () => mask.click());
  for (const [input, take] of /** @type {const} */ ([[photo, taker.photo], [mask, taker.mask]])) {
    input.addEventListener("change", () => {
      const file = input.files?.[0];
      input.value = ""; // so that the same file can be chosen again
      if (file) take(file);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (file) taker.photo(file);
  });

  const zones = byId("zones", HTMLElement);
  const parts = [...zones.querySelectorAll("[data-zone]")];
  let leaving = 0;
  const close = () => show("zones", false);
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    clearTimeout(leaving);
    show("zones", true);
    const over = zoneAt(event.target);
    for (const part of parts) {
      const masks = /** @type {HTMLElement} */ (part).dataset["zone"] === "mask";
      /** @type {HTMLElement} */ (part).hidden = masks && !taker.hasPhoto();
      part.classList.toggle("over", part === over);
    }
  });
  document.addEventListener("dragleave", () => {
    leaving = setTimeout(close, 150);
  });
  document.addEventListener("drop", (event) => {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    close();
    const [first, second] = files;
    if (first && second) {
      // Two at once: a photo and its mask, which says so in its name or comes second.
      const masked = /mask/i.test(first.name) && !/mask/i.test(second.name);
      taker.photo(masked ? second : first);
      taker.mask(masked ? first : second);
    } else if (first) {
      const zone = /** @type {HTMLElement | null} */ (zoneAt(event.target))?.dataset["zone"];
      (zone === "mask" && taker.hasPhoto() ? taker.mask : taker.photo)(first);
    }
  });
}

/** @param {EventTarget | null} target @returns {Element | null} */
function zoneAt(target) {
  return target instanceof Element ? target.closest("[data-zone]") : null;
}
