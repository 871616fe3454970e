// From files to photos of the workspace: which of them are masks, whose, and what has to be asked.

import { t } from "../i18n/index.js";
import { Mask } from "../mask/mask.js";
import { packed } from "../mask/runs.js";
import { removePhoto } from "../dialogs/deletion.js";
import { dismiss, notify } from "../dialogs/notices.js";
import { ask } from "../dialogs/question.js";
import { randomId } from "../state/jobs.js";
import { Photo } from "../state/photo.js";
import { holeOf } from "../state/steps.js";
import { Workspace } from "../state/workspace.js";
import { belongsTo, isMaskName } from "./names.js";
import { decode, isInProportion, looksLikeMask, maskOf, transparentOf } from "./read.js";

const QUESTION_SECONDS = 10;
const OPAQUE_TYPES = ["image/jpeg"]; // pictures of these have no transparent parts

export class Opening {
  /** @param {Workspace} workspace @param {(message: string) => void} complain */
  constructor(workspace, complain) {
    this.workspace = workspace;
    this.complain = complain;
  }

  /** Photos, with masks among them perhaps. @param {File[]} files */
  async open(files) {
    const named = files.filter(({ name }) => isMaskName(name));
    const plain = files.filter((file) => !named.includes(file));
    const before = this.workspace.selected;
    /** @type {Photo[]} */
    const added = [];
    for (const file of plain) {
      const photo = await this.#openOne(file, files.length === 1);
      if (photo) added.push(photo);
    }
    for (const file of named) await this.#placeMask(file, added);
    if (added.length === 1 && before?.holed && !before.job) this.#askAbout(before);
    if (!files.length) this.complain(t().noPhotosInside);
  }

  /** @param {Blob} blob @param {string} name @returns {Promise<Photo | null>} */
  async openPhoto(blob, name) {
    try {
      const bitmap = await decode(blob, name);
      const photo = this.#add(blob, name, bitmap);
      bitmap.close();
      return photo;
    } catch (error) {
      this.complain(error instanceof Error ? error.message : String(error));
      return null;
    }
  }

  /** A file that is a mask, because a person has said so. @param {File} file @param {Photo | null} photo */
  async openMask(file, photo = this.workspace.selected) {
    try {
      if (!photo || photo.job) throw new Error(t().photoFirst);
      const bitmap = await decode(file, file.name);
      if (!isInProportion(bitmap, photo)) throw new Error(t().maskSize(sizeOf(bitmap), sizeOf(photo)));
      this.useMask(photo, maskOf(bitmap, photo));
      bitmap.close();
      return true;
    } catch (error) {
      this.complain(error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  /** @param {Photo} photo @param {Mask} mask */
  useMask(photo, mask) {
    photo.push({ kind: "mask", runs: packed(mask) });
    photo.holed = !mask.empty;
    void this.workspace.save(photo);
  }

  /** Whether a photo whose hole was not filled stays in the list, now that another one is shown. @param {Photo} photo */
  #askAbout(photo) {
    const show = () => {
      dismiss("unfilled");
      this.workspace.select(photo);
    };
    const remove = () => {
      dismiss("unfilled");
      removePhoto(this.workspace, photo);
    };
    const actions = /** @type {[string, () => void][]} */ ([[t().backToIt, show], [t().deleteIt, remove]]);
    notify("unfilled", t().unfilled(photo.name), { seconds: QUESTION_SECONDS, actions });
  }

  /** @param {File} file @param {boolean} alone Whether it came alone, so that it may be the shown photo's mask. */
  async #openOne(file, alone) {
    const name = file.name || "photo.png";
    const shown = this.workspace.selected;
    try {
      const bitmap = await decode(file, name);
      const fits = shown && !shown.job && isInProportion(bitmap, shown);
      if (alone && fits && (await looksLikeMask(bitmap)) && (await this.#isMask(name, shown))) {
        bitmap.close();
        await this.openMask(file, shown);
        return null;
      }
      const photo = this.#add(file, name, bitmap);
      bitmap.close();
      return photo;
    } catch (error) {
      this.complain(error instanceof Error ? error.message : String(error));
      return null;
    }
  }

  /** @param {Blob} blob @param {string} name @param {ImageBitmap} bitmap */
  #add(blob, name, bitmap) {
    const photo = new Photo(randomId(), name, blob, bitmap.width, bitmap.height);
    this.workspace.add(photo);
    this.workspace.select(photo);
    const clear = OPAQUE_TYPES.includes(blob.type) ? null : transparentOf(bitmap);
    if (clear) {
      const use = () => {
        this.workspace.select(photo);
        this.useMask(photo, clear);
        dismiss("transparent");
      };
      notify("transparent", t().transparentParts(name), { actions: [[t().fillTransparent, use]] });
    }
    return photo;
  }

  /** A file whose name says that it is a mask. @param {File} file @param {Photo[]} added Photos that came with it. */
  async #placeMask(file, added) {
    const owner =
      [...added, ...this.workspace.photos.toReversed()].find(({ name }) => belongsTo(file.name, name)) ??
      (added.length === 1 ? added[0] : undefined);
    const photo = owner ?? this.workspace.selected;
    if (!photo || (!owner && !(await this.#isMask(file.name, photo)))) {
      await this.openPhoto(file, file.name);
      return;
    }
    const steps = photo.position;
    if (!(await this.openMask(file, photo))) return;
    const asPhoto = () => {
      dismiss("mask");
      if (photo.move(steps)) {
        photo.holed = !holeOf(photo).empty;
        void this.workspace.save(photo);
      }
      void this.openPhoto(file, file.name);
    };
    notify("mask", t().maskTaken(file.name, photo.name), { seconds: QUESTION_SECONDS, actions: [[t().openAsPhoto, asPhoto]] });
  }

  /** @param {string} name @param {Photo} photo */
  async #isMask(name, photo) {
    return (await ask(t().isItMask(name, photo.name), [t().asMask, t().asPhoto])) === 0;
  }
}

/** @param {{width: number, height: number}} picture */
function sizeOf({ width, height }) {
  return `${width} × ${height}`;
}
