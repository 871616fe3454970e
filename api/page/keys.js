// Keys, wherever the focus is, except in fields and dialogs.

import { Board } from "./canvas/board.js";
import { Cursor } from "./canvas/cursor.js";
import { Pointer } from "./canvas/pointer.js";
import { Tools } from "./canvas/tools.js";
import { showHelp } from "./dialogs/key-sheet.js";

/** @typedef {{fill: () => void, snap: () => void, download: () => void, copy: () => void}} Acts */
/** @typedef {import("./canvas/tools.js").Tool} Tool */

/** @type {Record<string, Tool>} */
const TOOL_KEYS = { b: "brush", e: "eraser", r: "rectangle", l: "lasso", m: "move" };
const FIELDS = "textarea, select, input:not([type=range], [type=checkbox], [type=radio], [type=file])";

/** @param {Board} board @param {Tools} tools @param {Pointer} pointer @param {Cursor} cursor @param {Acts} acts */
export function listenToKeys(board, tools, pointer, cursor, acts) {
  /** @type {Element | null} Where the focus was before Tab was pressed. */
  let focused = null;
  let tabHeld = false;

  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    if (event.defaultPrevented || event.altKey || event.isComposing || target.closest("dialog")) return;
    const key = nameOf(event);
    const field = target.matches(FIELDS);
    const taken =
      event.ctrlKey || event.metaKey
        ? command(key, event.shiftKey, field)
        : !field && (key === "Tab" ? holdTab(event) : plain(key, event.shiftKey, target, event.repeat));
    if (taken) event.preventDefault();
  });

  document.addEventListener("keyup", (event) => {
    const key = nameOf(event);
    if (key === "x") board.peek(false);
    if (key === "Tab") releaseTab();
    if (key === " " && pointer.grabbing) {
      pointer.grab(false);
      if (!pointer.grabbed) cursor.stamp();
    }
  });
  window.addEventListener("blur", () => {
    board.peek(false);
    pointer.grab(false);
  });

  /** @param {string} key @param {boolean} shift @param {boolean} field @returns {boolean} Whether the key is ours. */
  function command(key, shift, field) {
    if (key === "Enter") acts.fill();
    else if (key === "s") acts.download();
    else if (field) return false;
    else if (key === "z") shift ? board.redo() : board.undo();
    else if (key === "y") board.redo();
    else if (key === "c" && board.photo?.result && String(getSelection()) === "") acts.copy();
    else return false;
    return true;
  }

  /** @param {string} key @param {boolean} shift @param {Element} target @param {boolean} again @returns {boolean} */
  function plain(key, shift, target, again) {
    const pressable = target.closest("button, a, summary, [role=slider]"); // Space and Enter are its own
    const slider = target.matches("input[type=range]"); // so are arrows
    const tool = TOOL_KEYS[key];
    const outlined = tools.outline.length > 0;
    if (key === "x") board.peek(true);
    else if (key === "?") showHelp();
    else if (key === "c" && !again) board.compare(!board.view.comparing);
    else if (key === "+" || key === "=") board.view.zoom(1.25, eye());
    else if (key === "-") board.view.zoom(0.8, eye());
    else if (key === "0") board.view.fit();
    else if (key === "[") tools.resize(tools.size / 1.2 - 1);
    else if (key === "]") tools.resize(tools.size * 1.2 + 1);
    else if (key === "s") acts.snap();
    else if (key === "i") board.invert();
    else if (key === "Delete") board.clear();
    else if (key === "Escape" && outlined) tools.setOutline([]);
    else if (key === "Escape" && board.view.comparing) board.compare(false);
    else if (key === "Enter" && !pressable) outlined ? tools.closeOutline(false) : acts.fill();
    else if (key === " " && !pressable && board.photo) pointer.grab(true);
    else if (tool && board.editable) tools.choose(tool);
    else return !slider && !pressable && cursor.press(key, shift);
    return true;
  }

  /** A tap on Tab moves the focus, as always. Held, it shows what was before. @param {KeyboardEvent} event */
  function holdTab(event) {
    if (event.shiftKey || !board.view.before) return false;
    tabHeld = event.repeat;
    if (tabHeld) board.peek(true);
    else focused = document.activeElement;
    return tabHeld;
  }

  function releaseTab() {
    if (!tabHeld) return;
    tabHeld = false;
    board.peek(false);
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  }

  /** Where zooming by keys is about. */
  function eye() {
    return cursor.active && board.editable ? board.view.toScreen(cursor.at) : undefined;
  }
}

/** Letters by what they say, or by their place where the keyboard has other ones. @param {KeyboardEvent} event */
function nameOf({ key, code }) {
  if (key.length > 1) return key;
  const letter = /^Key([A-Z])$/.exec(code)?.[1];
  return (/^[\x20-\x7e]$/.test(key) ? key : (letter ?? key)).toLowerCase();
}
