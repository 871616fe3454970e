// Keys, wherever the focus is, and without a pointer at all.

import assert from "node:assert/strict";
import { join } from "node:path";
import * as help from "./helpers.mjs";

/** Press Tab until an element of this id has the focus. */
async function tab(page, to) {
  for (let i = 0; i < 60; i++) {
    if (await page.evaluate((id) => document.activeElement?.id === id, to)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`Tab does not lead to ${to}`);
}

const tool = (page, name) => page.locator(`[data-tool=${name}][aria-pressed=true]`).waitFor();

export const keyboard = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "photo.png"));
    await tab(page, "board");
    await page.locator("#ring:visible").waitFor();
    for (const key of ["]", "]", "ArrowLeft", "Space", "Shift+ArrowRight", "Shift+ArrowDown"]) await page.keyboard.press(key);
    await page.locator("#fill:enabled").waitFor();
    for (let i = 0; i < 3; i++) await page.keyboard.press("Control+z");
    await page.locator("#fill:disabled").waitFor();
    for (const key of ["r", "Space", "ArrowRight", "ArrowRight", "ArrowDown", "Space"]) await page.keyboard.press(key);
    await page.locator("#fill:enabled").waitFor();
    for (const key of ["l", "Space", "ArrowLeft", "Space", "ArrowUp", "Space", "Enter"]) await page.keyboard.press(key);
    await help.state(page, "edit"); // Enter has closed the lasso, and filled nothing
    await shoot("painted");
    await help.parameters(page, help.QUICK);
    await page.keyboard.press("Enter");
    await help.filled(page);
    await page.keyboard.press("c");
    await tab(page, "divider");
    const before = Number(await page.getAttribute("#divider", "aria-valuenow"));
    await page.keyboard.press("ArrowLeft");
    assert.equal(Number(await page.getAttribute("#divider", "aria-valuenow")), before - 1);
    await page.keyboard.press("Escape");
    await page.locator("#divider").waitFor({ state: "hidden" });
  },
};

export const keys = {
  options: { permissions: ["clipboard-read", "clipboard-write"] },
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "photo.png"));
    await page.click("#help"); // the focus is on a button from now on
    await page.locator("#help-dialog:visible").waitFor();
    await help.accessible(page, "keys");
    await shoot("sheet");
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.locator("#help-dialog:visible").waitFor();
    await page.keyboard.press("Escape");

    await page.focus("#add-photos");
    for (const [key, name] of [["e", "eraser"], ["r", "rectangle"], ["l", "lasso"], ["b", "brush"]]) {
      await page.keyboard.press(key);
      await tool(page, name);
    }
    const size = await page.textContent("#size-value");
    await page.keyboard.press("]");
    assert.notEqual(await page.textContent("#size-value"), size);
    await page.keyboard.press("[");
    assert.equal(await page.textContent("#size-value"), size);

    // Space and a drag move the view and paint nothing.
    await page.focus("#board");
    const still = await help.drawn(page);
    await page.keyboard.down("Space");
    await help.stroke(page, [150, 120], [210, 150]);
    await page.keyboard.up("Space");
    await help.changes(page, still);
    assert.ok(await page.isDisabled("#fill"));
    await page.keyboard.press("0");
    await help.becomes(page, still);

    // After a click on a button the keys are the photo's.
    await help.stroke(page, [150, 120], [210, 150]);
    await help.stroke(page, [150, 160], [210, 190]);
    await page.click("#undo");
    await page.keyboard.down("Space");
    await page.keyboard.up("Space");
    assert.equal(await page.locator("#steps .undone").count(), 1, "Space has not pressed Undo once more");
    await page.keyboard.press("Control+Shift+z");
    await page.keyboard.press("i");
    await page.locator("#steps [data-kind=invert]").waitFor();
    await page.keyboard.press("Control+z");
    await page.keyboard.press("Delete");
    await page.locator("#fill:disabled").waitFor();
    await page.keyboard.press("Control+z");

    // In a field, letters are letters.
    await help.parameters(page, "");
    await page.focus("#more");
    await page.keyboard.type("reach=0");
    await tool(page, "brush");
    assert.equal(await page.inputValue("#more"), "reach=0");
    await page.keyboard.press("Control+a");
    await page.keyboard.insertText(help.QUICK);
    await page.keyboard.press("Control+Enter");
    await help.filled(page);

    await page.focus("#add-photos");
    const [download] = await Promise.all([page.waitForEvent("download"), page.keyboard.press("Control+s")]);
    assert.equal(download.suggestedFilename(), "photo-filled.png");
    await page.keyboard.press("Control+c");
    await help.notice(page, "Copied.").waitFor();
    const copied = await page.evaluate(async () => {
      const [item] = await navigator.clipboard.read();
      const bitmap = await createImageBitmap(await item.getType("image/png"));
      return [bitmap.width, bitmap.height];
    });
    assert.deepEqual(copied, [384, 320]);
  },
};

export const tools = {
  async run({ page, context, folder }) {
    await help.choose(page, join(folder, "photo.png"));
    const clean = await help.drawn(page, "#over");
    await help.stroke(page, [150, 120], [210, 150]);
    await page.locator("#fill:enabled").waitFor();
    const painted = await help.drawn(page, "#over");
    await page.click("#clear");
    await page.locator("#fill:disabled").waitFor();
    await help.becomes(page, clean, "#over");
    await page.click("#undo");
    await page.locator("#fill:enabled").waitFor();
    await help.becomes(page, painted, "#over");
    await page.click("[data-tool=move]");
    await page.click("#zoom-in");
    await help.changes(page, painted, "#over");
    const near = await help.drawn(page, "#over");
    await help.stroke(page, [150, 120], [210, 150]);
    await help.changes(page, near, "#over");
    await page.click("#fit");
    await help.becomes(page, painted, "#over"); // moving has painted nothing
    await page.click("#clear");
    await page.click("[data-tool=brush]");
    const pen = await context.newCDPSession(page);
    for (const [type, at, buttons] of [
      ["mousePressed", [150, 120], 1],
      ["mouseMoved", [210, 150], 1],
      ["mouseReleased", [210, 150], 0],
    ]) {
      const [x, y] = await help.place(page, at);
      await pen.send("Input.dispatchMouseEvent", { type, x, y, button: "left", buttons, pointerType: "pen", force: 0.5 });
    }
    await page.locator("#fill:enabled").waitFor();
    await help.changes(page, clean, "#over");
  },
};
