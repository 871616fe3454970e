// Files on their way in: chosen, taken with the camera, pasted or dropped, one or many, with folders.

import { all, byId, onClick, show } from "../dom.js";

const CARRIED = ["Files", "text/uri-list"]; // the second: a picture dragged from another page

/**
 * @param {{hasPhoto: () => boolean, photos: (files: File[]) => void, mask: (file: File) => void,
 *   address: (address: string) => void}} taker
 * hasPhoto: whether there is one that a file could be the mask of. photos: may have masks among them.
 */
export function takeFiles(taker) {
  listenToInput("photo-file", ["choose-photo", "add-photos"], taker.photos);
  listenToInput("camera-file", ["camera"], taker.photos);
  listenToInput("mask-file", ["load-mask"], ([file]) => file && taker.mask(file));
  document.addEventListener("paste", (event) => {
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement) return;
    const files = [...(event.clipboardData?.files ?? [])];
    const text = event.clipboardData?.getData("text/plain").trim() ?? "";
    if (files.length) taker.photos(files);
    else if (/^https?:\/\/\S+$/.test(text)) taker.address(text);
  });

  let leaving = 0;
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.some((type) => CARRIED.includes(type))) return;
    event.preventDefault();
    if (!event.dataTransfer.types.includes("Files")) return;
    clearTimeout(leaving);
    show("zones", true);
    const over = zoneAt(event.target);
    for (const zone of all("[data-zone]")) {
      zone.hidden = zone.dataset["zone"] === "mask" && !taker.hasPhoto();
      zone.classList.toggle("over", zone === over);
    }
  });
  document.addEventListener("dragleave", () => {
    leaving = setTimeout(() => show("zones", false), 150);
  });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer?.types.some((type) => CARRIED.includes(type))) return;
    event.preventDefault();
    show("zones", false);
    const address = event.dataTransfer.getData("text/uri-list").split(/\r?\n/)[0];
    if (!event.dataTransfer.types.includes("Files")) return address && taker.address(address);
    const toMask = zoneAt(event.target)?.dataset["zone"] === "mask";
    void filesIn(event.dataTransfer).then((files) => {
      const [first] = files;
      if (toMask && first && taker.hasPhoto()) taker.mask(first);
      else taker.photos(files);
    });
  });
}

/** @param {string} id @param {string[]} buttons Those that open it. @param {(files: File[]) => void} take */
function listenToInput(id, buttons, take) {
  const input = byId(id, HTMLInputElement);
  for (const one of buttons) onClick(one, () => input.click());
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    input.value = ""; // so that the same file can be chosen again
    if (files.length) take(files);
  });
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
function zoneAt(target) {
  return target instanceof Element ? target.closest("[data-zone]") : null;
}

/** All files that are dropped, those in folders too. @param {DataTransfer} dropped @returns {Promise<File[]>} */
async function filesIn(dropped) {
  const entries = [...dropped.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...dropped.files];
  const found = await Promise.all(entries.map((entry) => (entry ? filesUnder(entry) : [])));
  return found.flat().filter(({ name, type }) => type.startsWith("image/") && !name.startsWith("."));
}

/** @param {FileSystemEntry} entry @returns {Promise<File[]>} */
async function filesUnder(entry) {
  if (entry.isFile) {
    return [await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject))];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const found = [];
  for (;;) {
    /** @type {FileSystemEntry[]} A part of them; none at the end. */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    found.push(...some);
  }
  found.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  return (await Promise.all(found.map(filesUnder))).flat();
}
