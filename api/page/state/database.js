// The browser's database: photos with their histories, so that nothing is lost when the page is closed.
// Where a browser keeps nothing (private windows of some), every call rejects.

const NAME = "lama-refinery";
const VERSION = 2;

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

/** @returns {Promise<IDBDatabase>} */
function open() {
  opened ??= new Promise((resolve, reject) => {
    const opening = indexedDB.open(NAME, VERSION);
    opening.onupgradeneeded = () => {
      const database = opening.result;
      for (const old of [...database.objectStoreNames]) database.deleteObjectStore(old);
      database.createObjectStore("photos", { keyPath: "id" });
      database.createObjectStore("pictures");
    };
    opening.onsuccess = () => {
      opening.result.onversionchange = () => opening.result.close();
      resolve(opening.result);
    };
    opening.onerror = () => reject(opening.error);
  });
  opened.catch(() => {
    opened = null;
  });
  return opened;
}

/**
 * @template T
 * @param {IDBTransactionMode} mode @param {(photos: IDBObjectStore, pictures: IDBObjectStore) => T} act
 * @returns {Promise<T>} What `act` returned, once all of it is stored.
 */
async function transact(mode, act) {
  const transaction = (await open()).transaction(["photos", "pictures"], mode);
  return new Promise((resolve, reject) => {
    const result = act(transaction.objectStore("photos"), transaction.objectStore("pictures"));
    transaction.oncomplete = () => resolve(result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

/** @returns {Promise<{records: any[], pictures: Map<string, Blob>}>} */
export async function load() {
  const { records, keys, blobs } = await transact("readonly", (photos, pictures) => ({
    records: photos.getAll(),
    keys: pictures.getAllKeys(),
    blobs: pictures.getAll(),
  }));
  return { records: records.result, pictures: new Map(keys.result.map((key, i) => [String(key), blobs.result[i]])) };
}

/** @param {{id: string}} record @param {Map<string, Blob>} pictures Those that are not kept yet. */
export async function save(record, pictures) {
  await transact("readwrite", (photos, store) => {
    photos.put(record);
    for (const [key, blob] of pictures) store.put(blob, key);
  });
}

/** @param {string} id Of a photo. @param {string[]} [keys] Of some of its pictures; all of the photo goes without them. */
export async function remove(id, keys) {
  await transact("readwrite", (photos, pictures) => {
    if (!keys) photos.delete(id);
    if (!keys) pictures.delete(IDBKeyRange.bound(`${id}/`, `${id}0`, false, true)); // "0" follows "/"
    for (const key of keys ?? []) pictures.delete(key);
  });
}
