// A request whose upload can be watched, which fetch does not let us.

/**
 * @param {string} path @param {RequestInit} init @param {(part: number) => void} onSent From 0 to 1.
 * @returns {Promise<Response>} Rejects with a TypeError, or an AbortError, as fetch does.
 */
export function upload(path, init, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(init.method ?? "POST", path);
    request.responseType = "blob";
    for (const [name, value] of new Headers(init.headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onSent(total ? loaded / total : 0);
    request.onload = () => {
      const headers = new Headers();
      for (const line of request.getAllResponseHeaders().trim().split(/\r?\n/)) {
        const colon = line.indexOf(":");
        if (colon > 0) headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
      }
      resolve(new Response(request.response, { status: request.status, headers }));
    };
    request.onerror = () => reject(new TypeError("the connection broke"));
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    if (init.signal?.aborted) return request.onabort(new ProgressEvent("abort"));
    init.signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(/** @type {FormData} */ (init.body));
  });
}
