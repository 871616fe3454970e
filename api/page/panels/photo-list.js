// The list of photos with the state of each, and what can be done with all of them.

import { byId, enable, iconButton, make, onClick, say, show } from "../dom.js";
import { language, t } from "../i18n/index.js";
import { distinct, filledName } from "../files/names.js";
import { save } from "../files/save.js";
import { zipOf } from "../files/zip.js";
import { messageOf } from "../service/trouble.js";
import { Jobs } from "../state/jobs.js";
import { Photo } from "../state/photo.js";
import { Workspace } from "../state/workspace.js";
import { removePhoto } from "../dialogs/deletion.js";
import { progressText, progressValue } from "./progress.js";
import { showSmall } from "./thumbnails.js";

/** @typedef {{element: HTMLElement, picture: Blob | null, image: HTMLImageElement, name: HTMLElement, state: HTMLElement,
 *   open: HTMLButtonElement, download: HTMLButtonElement, language: string}} Row */

/**
 * @param {Workspace} workspace @param {Jobs} jobs @param {() => Record<string, string> | null} fields
 * @param {(message: string) => void} complain
 */
export function showPhotoList(workspace, jobs, fields, complain) {
  /** @type {Map<Photo, Row>} */
  const rows = new Map();

  const draw = () => {
    const { photos } = workspace;
    for (const photo of rows.keys()) if (!photos.includes(photo)) rows.delete(photo);
    const list = byId("photo-list", HTMLElement);
    const elements = photos.map((photo) => {
      let row = rows.get(photo);
      if (!row || row.language !== language()) rows.set(photo, (row = makeRow(workspace, photo)));
      drawRow(row, photo, workspace.selected === photo, jobs.connection.lost);
      return row.element;
    });
    if (elements.length !== list.children.length || elements.some((element, i) => element !== list.children[i])) {
      list.replaceChildren(...elements);
    }
    const ready = photos.filter((photo) => photo.holed && !photo.job).length;
    const filled = photos.filter(({ result }) => result).length;
    show("fill-all", photos.length > 1);
    show("download-all", photos.length > 1);
    say("fill-all", t().fillAll(ready));
    say("download-all", t().downloadAll(filled));
    enable("fill-all", ready > 0);
    enable("download-all", filled > 0);
  };

  onClick("fill-all", () => {
    const chosen = fields();
    if (chosen) for (const photo of workspace.photos) void jobs.start(photo, chosen);
  });
  onClick("download-all", () => {
    const files = workspace.photos.flatMap(({ name, result }) =>
      result ? [{ name: filledName(name, result.mediaType), blob: result.blob }] : [],
    );
    const names = distinct(files.map(({ name }) => name));
    zipOf(files.map(({ blob }, i) => ({ name: names[i] ?? "", blob }))).then(
      (zip) => save(zip, "filled.zip"),
      (error) => complain(messageOf(error)),
    );
  });
  workspace.onChange(draw);
  jobs.connection.onChange(draw);
}

/** @param {Workspace} workspace @param {Photo} photo @returns {Row} */
function makeRow(workspace, photo) {
  const image = make("img", { alt: "" });
  const name = make("strong", { title: photo.name }, photo.name);
  const state = make("span", { class: "faint" });
  const open = make("button", { type: "button", class: "open" }, image, make("span", {}, name, state));
  open.addEventListener("click", () => workspace.select(photo));
  const download = iconButton("download", t().downloadPhoto(photo.name), () => {
    const { result } = photo;
    if (result) save(result.blob, filledName(photo.name, result.mediaType));
  });
  const remove = iconButton("clear", t().deletePhoto(photo.name), () => removePhoto(workspace, photo));
  const element = make("li", { "data-photo": photo.name }, open, download, remove);
  return { element, picture: null, image, name, state, open, download, language: language() };
}

/** @param {Row} row @param {Photo} photo @param {boolean} selected @param {boolean} lost */
function drawRow(row, photo, selected, lost) {
  if (row.picture !== photo.picture) showSmall(row.image, (row.picture = photo.picture));
  row.open.setAttribute("aria-current", String(selected));
  row.download.hidden = !photo.result;
  const text = stateText(photo, lost);
  if (row.state.textContent !== text) row.state.textContent = text;
  row.element.classList.toggle("wrong", photo.problem !== "");
}

/** @param {Photo} photo @param {boolean} lost @returns {string} */
function stateText(photo, lost) {
  if (photo.job) {
    const part = progressValue(photo.job);
    const running = photo.job.phase === "running" && part !== null && !photo.job.canceling && !lost;
    return running ? t().atWork(Math.round(100 * part)) : progressText(photo.job, lost);
  }
  if (photo.problem) return t().notFilled;
  if (photo.result) return photo.holed ? t().filledAndHole : t().filled;
  return photo.holed ? t().hasHole : t().noHole;
}
