// Deleting a photo, with a message that undoes it.

import { t } from "../i18n/index.js";
import { Photo } from "../state/photo.js";
import { UNDO_MILLISECONDS, Workspace } from "../state/workspace.js";
import { dismiss, notify } from "./notices.js";

/** @param {Workspace} workspace @param {Photo} photo */
export function removePhoto(workspace, photo) {
  const restore = workspace.remove(photo);
  const id = `deleted-${photo.id}`;
  const undo = () => {
    restore();
    dismiss(id);
  };
  notify(id, t().deleted(photo.name), { seconds: UNDO_MILLISECONDS / 1000, actions: [[t().undo, undo]] });
}
