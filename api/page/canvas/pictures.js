// Pictures as the canvas draws them: decoded once, with a smaller copy, so that moving a large one stays quick.

const SMALL_PIXELS = 2048; // long side of the copy that is drawn while all of the photo is in sight
const KEPT = 3; // decoded pictures: the present one, what it is compared with, and one to go back to

export class Picture {
  /** @param {ImageBitmap} full @param {ImageBitmap | null} small */
  constructor(full, small) {
    this.full = full;
    this.small = small;
  }

  /** @param {Blob} blob */
  static async of(blob) {
    const full = await createImageBitmap(blob, { imageOrientation: "from-image" });
    const share = SMALL_PIXELS / Math.max(full.width, full.height);
    if (share >= 1) return new Picture(full, null);
    const size = { resizeWidth: Math.round(full.width * share), resizeHeight: Math.round(full.height * share) };
    return new Picture(full, await createImageBitmap(full, { ...size, resizeQuality: "high" }));
  }

  /** What to draw when the picture takes `width` device pixels. @param {number} width */
  at(width) {
    return this.small && width <= this.small.width ? this.small : this.full;
  }

  close() {
    this.full.close();
    this.small?.close();
  }
}

/** The decoded pictures of the latest blobs. */
export class Pictures {
  constructor() {
    /** @type {Map<Blob, Promise<Picture>>} */
    this.decoded = new Map();
  }

  /** @param {Blob} blob @returns {Promise<Picture>} Rejects when the browser cannot show it. */
  get(blob) {
    const found = this.decoded.get(blob) ?? Picture.of(blob);
    this.decoded.delete(blob);
    this.decoded.set(blob, found); // now the latest
    const [oldest, picture] = /** @type {[Blob, Promise<Picture>]} */ (this.decoded.entries().next().value);
    if (this.decoded.size > KEPT) {
      this.decoded.delete(oldest);
      picture.then((old) => old.close(), () => {});
    }
    return found;
  }
}
