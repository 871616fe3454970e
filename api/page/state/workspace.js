// All photos of the page and which of them is shown. Whoever shows something of it listens with `onChange`.

import * as database from "./database.js";
import { Photo } from "./photo.js";

export const UNDO_MILLISECONDS = 10_000; // for how long a deletion can be undone
const SELECTED = "lama-refinery.selected";

export class Workspace {
  constructor() {
    /** @type {Photo[]} In the order in which they came. */
    this.all = [];
    /** @type {Photo | null} */
    this.selected = null;
    /** What kept the browser from keeping a photo; empty when all is kept. */
    this.unkept = "";
    /** @type {(() => void)[]} */
    this.listeners = [];
    this.announcing = false;
    /** @type {Map<string, Set<string>>} Keys of the pictures that the database has, by photo. */
    this.keptPictures = new Map();
    /** @type {Map<string, Promise<void>>} Savings under way. */
    this.saving = new Map();
    /** @type {(photo: Photo) => Promise<void>} Deletes what the service has of a photo. */
    this.deleteJobs = async () => {};
  }

  /** The photos without those that are being deleted. */
  get photos() {
    return this.all.filter(({ deletedAt }) => !deletedAt);
  }

  /** @param {() => void} listener Called soon after anything has changed. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Tell the listeners, once for all changes of this moment. */
  changed() {
    if (this.announcing) return;
    this.announcing = true;
    queueMicrotask(() => {
      this.announcing = false;
      for (const listener of this.listeners) listener();
    });
  }

  /** Take up the work where it was left. */
  async restore() {
    let found;
    try {
      found = await database.load();
    } catch (error) {
      this.unkept = String(error);
      this.changed();
      return;
    }
    const { records, pictures } = found;
    records.sort((a, b) => a.addedAt - b.addedAt);
    for (const record of records) {
      const photo = Photo.from(record, (key) => pictures.get(key));
      if (photo) {
        this.all.push(photo);
        this.keptPictures.set(photo.id, new Set(photo.pictures.keys()));
      } else await database.remove(record.id);
    }
    for (const photo of this.all.filter(({ deletedAt }) => deletedAt)) void this.#finishDeletion(photo);
    this.select(this.photos.find(({ id }) => id === lastSelected()) ?? this.photos.at(-1) ?? null);
  }

  /** @param {Photo} photo */
  add(photo) {
    this.all.push(photo);
    void this.save(photo);
    this.changed();
  }

  /** @param {Photo | null} photo */
  select(photo) {
    this.selected = photo;
    try {
      sessionStorage.setItem(SELECTED, photo?.id ?? "");
    } catch {
      // Then a reload shows the newest photo.
    }
    this.changed();
  }

  /** Keep a photo as it is now, and tell the listeners. @param {Photo} photo */
  async save(photo) {
    this.changed();
    const saving = (this.saving.get(photo.id) ?? Promise.resolve()).then(async () => {
      if (this.saving.get(photo.id) === saving) await this.#write(photo); // otherwise a later call keeps it
    });
    this.saving.set(photo.id, saving);
    await saving;
  }

  /** @param {Photo} photo */
  async #write(photo) {
    if (!this.all.includes(photo)) return;
    try {
      const kept = this.keptPictures.get(photo.id) ?? new Set();
      const pictures = photo.pictures;
      const added = new Map([...pictures].filter(([key]) => !kept.has(key)));
      await database.save(photo.record, added);
      const gone = [...kept].filter((key) => !pictures.has(key)); // a new step has replaced undone ones
      if (gone.length) await database.remove(photo.id, gone);
      this.keptPictures.set(photo.id, new Set(pictures.keys()));
      this.unkept = "";
    } catch (error) {
      this.unkept = error instanceof Error ? error.message : String(error);
    }
    this.changed();
  }

  /**
   * Take a photo away. For ten seconds it can be had back; then the browser and the service delete all of it.
   * @param {Photo} photo @returns {() => void} Undoes it.
   */
  remove(photo) {
    photo.deletedAt = Date.now();
    const index = this.all.indexOf(photo);
    if (this.selected === photo) {
      this.select(this.all.slice(0, index).findLast((one) => !one.deletedAt) ?? this.photos[0] ?? null);
    }
    void this.save(photo);
    const timer = setTimeout(() => void this.#finishDeletion(photo), UNDO_MILLISECONDS);
    return () => {
      clearTimeout(timer);
      if (!this.all.includes(photo)) return;
      photo.deletedAt = 0;
      this.select(photo);
      void this.save(photo);
    };
  }

  /** @param {Photo} photo */
  async #finishDeletion(photo) {
    this.all = this.all.filter((one) => one !== photo);
    this.changed();
    await this.saving.get(photo.id);
    try {
      await this.deleteJobs(photo);
      await database.remove(photo.id);
    } catch {
      // The service does not answer, or nothing was kept. What is kept is marked: the next visit deletes it.
    }
  }
}

function lastSelected() {
  try {
    return sessionStorage.getItem(SELECTED);
  } catch {
    return null;
  }
}
