// Runs snap.js beside the page, so that painting goes on meanwhile.

import { beyond, snap } from "./snap.js";

/** @typedef {{number: number, scene: import("./snap.js").Scene, how: "around" | "on" | "beyond"}} Task */

/** @param {MessageEvent<Task>} event */
onmessage = ({ data: { number, scene, how } }) => {
  postMessage({ number, found: how === "beyond" ? beyond(scene) : snap(scene, how) });
};
