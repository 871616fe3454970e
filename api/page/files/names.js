// What files are called: which name says that a file is a mask, whose mask it is, and what a result is called.

const MASK_WORD = /(^|[-_. (])(mask|蒙版|遮罩)(?=[-_. )\d]|$)\d*/i;
const EXTENSIONS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/tiff": "tiff", "image/avif": "avif" };

/** @param {string} name @returns {string} Without its extension. */
function stem(name) {
  return name.replace(/\.[^.]*$/, "");
}

/** @param {string} name */
export function isMaskName(name) {
  return MASK_WORD.test(stem(name));
}

/** Whether a mask's name is that of the photo with "mask" added. @param {string} mask @param {string} photo */
export function belongsTo(mask, photo) {
  const plain = (/** @type {string} */ text) => text.replace(/[-_. ()]+/g, "").toLowerCase();
  const own = plain(stem(mask).replace(MASK_WORD, "$1"));
  return own !== "" && own === plain(stem(photo));
}

/** @param {string} name Of the photo. @param {string} mediaType Of the result. @returns {string} */
export function filledName(name, mediaType) {
  const extension = EXTENSIONS[/** @type {keyof typeof EXTENSIONS} */ (mediaType)] ?? "png";
  return `${stem(name)}-filled.${extension}`;
}

/** Names of which no two are the same. @param {string[]} names @returns {string[]} */
export function distinct(names) {
  const seen = new Set();
  return names.map((name) => {
    let one = name;
    for (let n = 2; seen.has(one.toLowerCase()); n++) one = `${stem(name)}-${n}${name.slice(stem(name).length)}`;
    seen.add(one.toLowerCase());
    return one;
  });
}
