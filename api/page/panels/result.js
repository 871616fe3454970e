// The result: what it is, and the ways it leaves the page.

import { byId, onClick, say, show } from "../dom.js";
import { t } from "../i18n/index.js";
import { filledName } from "../files/names.js";
import { copyPicture, save } from "../files/save.js";
import { Workspace } from "../state/workspace.js";
import { showCalls } from "./call-panel.js";
import { notify } from "../dialogs/notices.js";

/** @param {Workspace} workspace @param {() => boolean} keyed Whether the service was given an API key. */
export function showResult(workspace, keyed) {
  onClick("download", () => downloadResult(workspace));
  onClick("copy-result", () => void copyResult(workspace));
  workspace.onChange(() => {
    const photo = workspace.selected;
    const result = photo?.result ?? null;
    show("result-section", result !== null);
    show("calls", result !== null);
    if (!photo || !result) return;
    const size = t().photoSize(result.width, result.height);
    say("result-facts", t().resultFacts(size, t().megabytes(result.blob.size), result.network));
    say("result-warnings", (result.warnings ?? []).join(" "));
    byId("copy-result", HTMLButtonElement).disabled = !result.viewable;
    const out = filledName(photo.name, result.mediaType);
    showCalls({ origin: location.origin, photo: photo.name, fields: result.fields, keyed: keyed(), out });
  });
}

/** @param {Workspace} workspace */
export function downloadResult({ selected }) {
  if (selected?.result) save(selected.result.blob, filledName(selected.name, selected.result.mediaType));
}

/** @param {Workspace} workspace */
export async function copyResult({ selected }) {
  if (!selected?.result?.viewable) return;
  try {
    await copyPicture(selected.result.blob);
    notify("copied", t().copied, { seconds: 4 });
  } catch {
    notify("copied", t().cannotCopy, { wrong: true, seconds: 8 });
  }
}
