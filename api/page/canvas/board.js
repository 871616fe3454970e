// The selected photo on the canvas: keeps picture, hole and comparison as the workspace says, and takes new steps.

import { byId } from "../dom.js";
import { Mask } from "../mask/mask.js";
import { boundsOf } from "../mask/rough.js";
import { messageOf } from "../service/trouble.js";
import { Photo } from "../state/photo.js";
import { preferences } from "../state/preferences.js";
import { holeOf, replay } from "../state/steps.js";
import { Workspace } from "../state/workspace.js";
import { Picture, Pictures } from "./pictures.js";
import { View } from "./view.js";

/** @typedef {import("../state/steps.js").Step} Step */

export class Board {
  /** @param {Workspace} workspace @param {(message: string) => void} complain */
  constructor(workspace, complain) {
    this.workspace = workspace;
    this.complain = complain;
    this.element = byId("board", HTMLElement);
    this.view = new View(this.element, byId("base", HTMLCanvasElement), byId("over", HTMLCanvasElement));
    this.pictures = new Pictures();
    /** @type {Photo | null} */
    this.photo = null;
    this.mask = new Mask(0, 0);
    /** @type {Step[] | null} Those that the mask shows. */
    this.shownSteps = null;
    /** @type {Blob | null} */
    this.shownPicture = null;
    /** @type {Blob | null} */
    this.shownBefore = null;
    workspace.onChange(() => this.#follow());
  }

  /** Whether the hole may be changed. */
  get editable() {
    return this.photo !== null && !this.photo.job && !this.view.comparing;
  }

  /** Take a step whose hole the mask has already, or that it is given now. @param {Step} step @param {boolean} [shown] */
  commit(step, shown = false) {
    const photo = this.photo;
    if (!photo || photo.job) return;
    photo.push(step);
    if (shown) this.shownSteps = photo.done;
    this.#holeChanged(photo);
  }

  /** @param {number} position Of the history. */
  go(position) {
    if (this.photo?.move(position)) this.#holeChanged(this.photo);
  }

  undo() {
    if (this.photo) this.go(this.photo.position - 1);
  }

  redo() {
    if (this.photo) this.go(this.photo.position + 1);
  }

  clear() {
    if (this.editable && !this.mask.empty) this.commit({ kind: "clear" });
  }

  invert() {
    if (this.editable) this.commit({ kind: "invert" });
  }

  /** Draw the hole as its steps say, after something was painted that is no step. */
  restore() {
    this.shownSteps = null;
    this.#showHole();
  }

  /** @param {boolean} on */
  compare(on) {
    this.view.comparing = on && Boolean(this.view.before);
    if (this.view.comparing) this.#placeDivider();
    this.view.redraw();
    this.workspace.changed();
  }

  /** @param {boolean} on */
  peek(on) {
    const peeking = on && Boolean(this.view.before);
    if (peeking === this.view.peeking) return;
    this.view.peeking = peeking;
    this.view.redraw();
    this.workspace.changed();
  }

  /** Whether the browser can show a picture. That of the shown photo stays decoded, so that it follows the preview at once.
   * @param {Photo} photo @param {Blob} blob */
  async canShow(photo, blob) {
    try {
      if (photo === this.photo) await this.pictures.get(blob);
      else (await createImageBitmap(blob)).close();
      return true;
    } catch {
      return false;
    }
  }

  /** Show how far a job is. @param {Photo} photo @param {Blob | null} blob */
  async preview(photo, blob) {
    const picture = blob && (await Picture.of(blob));
    if (this.photo !== photo || (picture && !photo.job)) return picture?.close();
    this.view.preview?.close();
    this.view.preview = picture;
    this.view.redraw();
  }

  /** @param {Photo} photo */
  #holeChanged(photo) {
    this.#showHole();
    photo.holed = !this.mask.empty;
    void this.workspace.save(photo);
  }

  #showHole() {
    const steps = this.photo?.done ?? [];
    const shown = this.shownSteps;
    if (shown?.length === steps.length && shown.every((step, i) => step === steps[i])) return;
    replay(this.mask, steps);
    this.shownSteps = steps;
    this.view.redraw();
  }

  /** Bring the canvas up to date with the workspace. */
  #follow() {
    const photo = this.workspace.selected;
    if (photo !== this.photo) this.#open(photo);
    if (!photo) return;
    if (!photo.job && this.view.preview) void this.preview(photo, null);
    this.#showHole();
    void this.#showPictures(photo);
  }

  /** @param {Photo | null} photo */
  #open(photo) {
    this.photo = photo;
    this.shownSteps = this.shownPicture = this.shownBefore = null;
    this.view.preview?.close();
    this.view.preview = this.view.picture = this.view.before = null;
    this.view.comparing = this.view.peeking = false;
    this.mask = new Mask(photo?.width ?? 0, photo?.height ?? 0);
    this.view.mask = this.mask;
    if (photo) this.view.open(photo.width, photo.height);
  }

  /** @param {Photo} photo */
  async #showPictures(photo) {
    const picture = photo.picture;
    const before = photo.before(preferences().before);
    if (picture === this.shownPicture && before === this.shownBefore) return this.#tell();
    [this.shownPicture, this.shownBefore] = [picture, before];
    try {
      const [now, then] = await Promise.all([this.pictures.get(picture), before && this.pictures.get(before)]);
      if (this.shownPicture !== picture || this.shownBefore !== before || this.photo !== photo) return;
      this.view.picture = now;
      this.view.before = then;
      if (!then) this.view.comparing = this.view.peeking = false;
      this.view.redraw();
      this.#tell();
      this.workspace.changed();
    } catch (error) {
      this.complain(messageOf(error));
    }
  }

  /** Say on the element how many steps the picture shows. */
  #tell() {
    const { photo, view } = this;
    const shown = view.preview ? "preview" : view.picture ? String(photo?.position) : "nothing";
    if (this.element.dataset["shown"] !== shown) this.element.dataset["shown"] = shown;
  }

  /** The divider starts in the middle of what was filled last. */
  #placeDivider() {
    const steps = this.photo?.done ?? [];
    const last = steps.findLastIndex((step) => step.kind === "fill");
    const mask = holeOf({ width: this.view.width, height: this.view.height, done: steps.slice(0, Math.max(0, last)) });
    const bounds = boundsOf(mask);
    this.view.split = bounds ? (bounds.left + bounds.right) / 2 / mask.width : 0.5;
  }
}
