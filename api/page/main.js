// The page as a whole: makes its parts and puts them together.

import { Board } from "./canvas/board.js";
import { Cursor } from "./canvas/cursor.js";
import { showDivider } from "./canvas/divider.js";
import { Pointer } from "./canvas/pointer.js";
import { Snapping } from "./canvas/snapping.js";
import { Tools } from "./canvas/tools.js";
import { all, byId, enable, onClick, say, show } from "./dom.js";
import { openAddress } from "./files/address.js";
import { takeFiles } from "./files/incoming.js";
import { Opening } from "./files/opening.js";
import { openSample } from "./files/sample.js";
import { save } from "./files/save.js";
import { t, writeTexts } from "./i18n/index.js";
import { listenToKeys } from "./keys.js";
import { pngOf } from "./mask/png.js";
import { showCompare } from "./panels/compare.js";
import { showDock } from "./panels/dock.js";
import { askKey } from "./dialogs/api-key.js";
import { dismiss, keepNotice, notify } from "./dialogs/notices.js";
import { Options } from "./panels/options.js";
import { showPhotoList } from "./panels/photo-list.js";
import { copyResult, downloadResult, showResult } from "./panels/result.js";
import { showSettings } from "./panels/settings.js";
import { showSteps } from "./panels/steps.js";
import { Service } from "./service/client.js";
import { Connection } from "./service/connection.js";
import { messageOf } from "./service/trouble.js";
import { Jobs } from "./state/jobs.js";
import { Planner } from "./state/planner.js";
import { Workspace } from "./state/workspace.js";

/** @param {string} message */
const complain = (message) => notify("complaint", message, { wrong: true });

writeTexts();
const service = new Service(async (why) => {
  const key = await askKey(why);
  setTimeout(() => void options.askNetworks());
  return key;
});
const connection = new Connection();
const workspace = new Workspace();
const board = new Board(workspace, complain);
const tools = new Tools(board);
const pointer = new Pointer(board, tools);
const cursor = new Cursor(board, tools);
const snapping = new Snapping(board);
const jobs = new Jobs(workspace, service, connection);
const opening = new Opening(workspace, complain);
const options = new Options(workspace, service, (grow, feather) => {
  Object.assign(board.view.overlay, { grow, feather });
  board.view.redraw();
});
const planner = new Planner(workspace, service, () => options.fields);

workspace.deleteJobs = jobs.delete.bind(jobs);
/** @param {import("./state/photo.js").Photo} photo @param {string} id */
jobs.onPreview = (photo, id) => {
  if (photo !== workspace.selected) return;
  // It may have been replaced by the result meanwhile, or the connection broke; the next one comes.
  void service.preview(id, AbortSignal.timeout(5000)).then((blob) => board.preview(photo, blob)).catch(() => {});
};
jobs.canShow = board.canShow.bind(board);

function fill() {
  const photo = workspace.selected;
  if (!photo?.holed || photo.job) return;
  const { fields } = options;
  if (!fields) return options.report();
  dismiss("complaint");
  board.compare(false);
  service.declined = false;
  void jobs.start(photo, fields);
}

showSettings(workspace);
showDivider(board);
showDock(board, jobs, planner, fill, complain);
showSteps(board);
showCompare(board);
showPhotoList(workspace, jobs, () => options.fields, complain);
showResult(workspace, () => service.key !== "");
listenToKeys(board, tools, pointer, cursor, {
  fill,
  snap: () => void snapping.snap(),
  download: () => downloadResult(workspace),
  copy: () => void copyResult(workspace),
});
/** @type {Promise<unknown>} Openings so far: one after the other. */
let opened = Promise.resolve();
takeFiles({
  hasPhoto: () => workspace.selected !== null && !workspace.selected.job,
  photos: (files) => (opened = opened.then(() => opening.open(files))),
  mask: (file) => (opened = opened.then(() => opening.openMask(file))),
  address: (address) => (opened = opened.then(() => openAddress(address, opening, service, complain))),
});
byId("address-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const { value } = byId("address", HTMLInputElement);
  opened = opened.then(() => openAddress(value, opening, service, complain));
});
show("camera", matchMedia("(pointer: coarse)").matches);
onClick("sample", () => void openSample(workspace).catch((error) => complain(messageOf(error))));
onClick("fit", () => board.view.fit());
onClick("zoom-in", () => board.view.zoom(1.5));
onClick("zoom-out", () => board.view.zoom(1 / 1.5));
onClick("save-mask", () => void pngOf(board.mask).then((blob) => save(blob, "mask.png")));

// After a click the keys are the photo's again: Space would press the button once more.
for (const group of all("#dock, #compare, #zoom")) {
  group.addEventListener("click", ({ detail, target }) => {
    if (detail > 0 && target instanceof Element && target.closest("button")) board.element.focus({ preventScroll: true });
  });
}

workspace.onChange(() => {
  const photo = workspace.selected;
  document.body.dataset["state"] = !photo ? "empty" : photo.job ? "running" : "edit";
  show("welcome", photo === null);
  for (const id of ["zoom", "mask-section"]) show(id, photo !== null);
  say("photo-info", photo ? t().photoInfo(photo.name, t().photoSize(photo.width, photo.height)) : "");
  enable("load-mask", photo !== null && !photo.job);
  enable("save-mask", photo !== null && photo.holed);
  keepNotice("unkept", workspace.unkept && t().notKept(workspace.unkept), { wrong: true });
});
connection.onChange(() => {
  keepNotice("lost", connection.lost ? t().serviceLost : "", { wrong: true, closable: false });
  if (!connection.lost) void options.askNetworks();
});

await workspace.restore();
workspace.changed();
jobs.resume();
void options.askNetworks();
document.body.dataset["ready"] = "true";
