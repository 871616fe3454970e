// What this browser remembers: its jobs, and the photos and masks of the latest ones, to compare with after a reload.
// A browser that keeps nothing (private windows) is fine: then nothing is remembered.

/** @typedef {{id: string, name: string, at: number, fields: Record<string, string>}} Entry */

const LIST = "lama-refinery.jobs";
const MOST = 20;
const PHOTOS = 5;

/** @returns {Entry[]} Newest first. */
export function entries() {
  try {
    const found = JSON.parse(localStorage.getItem(LIST) ?? "[]");
    return Array.isArray(found) ? found.filter((entry) => typeof entry?.id === "string") : [];
  } catch {
    return [];
  }
}

/** @param {Entry[]} list */
function write(list) {
  try {
    localStorage.setItem(LIST, JSON.stringify(list.slice(0, MOST)));
  } catch {
    // Full, or not allowed.
  }
}

/** @param {Entry} entry @param {Blob} photo @param {Blob} mask */
export async function remember(entry, photo, mask) {
  write([entry, ...entries().filter((other) => other.id !== entry.id)]);
  const kept = new Set(entries().slice(0, PHOTOS).map((other) => other.id));
  await inStore("readwrite", (store) => {
    const all = store.getAllKeys();
    all.onsuccess = () => all.result.filter((id) => !kept.has(String(id))).forEach((id) => store.delete(id));
    return store.put({ photo, mask }, entry.id);
  });
}

/** @param {string} id */
export async function forget(id) {
  write(entries().filter((entry) => entry.id !== id));
  await inStore("readwrite", (store) => store.delete(id));
}

/** @param {string} id @returns {Promise<{photo: Blob, mask: Blob} | null>} */
export async function filesOf(id) {
  return (await inStore("readonly", (store) => store.get(id))) ?? null;
}

/**
 * @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest} act
 * @returns {Promise<any>} The request's result; null when the browser does not let us.
 */
async function inStore(mode, act) {
  try {
    const database = await new Promise((resolve, reject) => {
      const opening = indexedDB.open("lama-refinery", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("files");
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
    });
    try {
      return await new Promise((resolve, reject) => {
        const transaction = database.transaction("files", mode);
        const request = act(transaction.objectStore("files"));
        transaction.oncomplete = () => resolve(request.result);
        transaction.onabort = transaction.onerror = () => reject(transaction.error);
      });
    } finally {
      database.close();
    }
  } catch {
    return null;
  }
}
