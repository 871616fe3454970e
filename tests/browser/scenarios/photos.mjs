// Several photos, masks among them, and all results at once.

import assert from "node:assert/strict";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as help from "./helpers.mjs";

const drop = (page, files, zone = "photo") => page.dispatchEvent(`[data-zone=${zone}]`, "drop", { dataTransfer: files });

export const many = {
  async run({ page, folder, shoot }) {
    await drop(page, await help.carried(page, folder, ["photo.png", "upright.jpg", "small.png", "upright_mask.png"]));
    for (const name of ["photo.png", "upright.jpg", "small.png"]) await help.row(page, name).waitFor();
    await help.notice(page, "upright_mask.png is now the hole of upright.jpg").waitFor();
    await help.row(page, "upright.jpg").locator("text=ready to fill").waitFor();
    await help.row(page, "small.png").locator("text=no hole yet").waitFor();
    assert.equal(await page.locator("#photo-list li").count(), 3, "the mask is no photo");

    await help.row(page, "photo.png").locator(".open").click();
    await help.info(page, "384 × 320");
    await help.stroke(page, [150, 120], [210, 150]);
    await help.parameters(page, help.QUICK);
    await page.locator("#fill-all", { hasText: "Fill all (2)" }).click();
    await shoot("at-work");
    await help.row(page, "small.png").locator(".open").click(); // which is not filled, and can be painted meanwhile
    await help.stroke(page, [30, 30], [50, 50]);
    for (const name of ["photo.png", "upright.jpg"]) await help.row(page, name).locator("text=filled").waitFor();
    await help.row(page, "small.png").locator("text=ready to fill").waitFor();
    await help.accessible(page, "many photos");
    await shoot("filled");
    assert.equal(await help.saved(page, "#download-all", join(folder, "filled.zip")), "filled.zip");
  },
};

export const incoming = {
  async run({ page, folder, shoot }) {
    const [photo, hole, small] = [
      await help.carried(page, folder, ["photo.png"]),
      await help.carried(page, folder, ["hole.png"]),
      await help.carried(page, folder, ["small.png"]),
    ];
    await page.dispatchEvent("body", "dragover", { dataTransfer: photo });
    assert.ok(await page.isHidden("[data-zone=mask]"), "there is no photo that it could be the mask of");
    await drop(page, photo);
    await help.state(page, "edit");
    await page.dispatchEvent("body", "dragover", { dataTransfer: hole });
    await shoot("over");
    await drop(page, hole, "mask");
    await page.locator("#fill:enabled").waitFor();

    // The same file as if it were a photo: black and white, of the photo's size. It is asked about.
    await page.click("#clear");
    await page.locator("#fill:disabled").waitFor();
    await drop(page, hole);
    await page.locator("#question-text", { hasText: "Is hole.png the mask of photo.png, or another photo?" }).waitFor();
    await help.accessible(page, "asking");
    await shoot("asked");
    await page.getByRole("button", { name: "The mask" }).click();
    await page.locator("#fill:enabled").waitFor();
    await drop(page, hole);
    await page.getByRole("button", { name: "Another photo" }).click();
    await help.row(page, "hole.png").waitFor();

    await page.evaluate((data) => {
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    }, small);
    await help.info(page, "96 × 80");

    // A mask by its name that fits no photo by its name: asked too.
    await drop(page, await help.carried(page, folder, ["upright_mask.png"]));
    await page.getByRole("button", { name: "Another photo" }).click();
    await help.row(page, "upright_mask.png").waitFor();
    await drop(page, await help.carried(page, folder, ["upright.jpg", "upright_mask.png"]));
    await help.notice(page, "upright_mask.png is now the hole").getByRole("button", { name: "Open it as a photo" }).click();
    await page.locator("#photo-list li").nth(5).waitFor();
    await help.row(page, "upright.jpg").locator("text=no hole yet").waitFor();
  },
};

export const folders = {
  async run({ page, context, folder }) {
    await mkdir(join(folder, "album/more"), { recursive: true });
    for (const [from, to] of [["photo.png", "photo.png"], ["hole.png", "photo_mask.png"], ["small.png", "more/small.png"]]) {
      await copyFile(join(folder, from), join(folder, "album", to));
    }
    await writeFile(join(folder, "album/notes.txt"), "no picture");
    const hand = await context.newCDPSession(page);
    const data = { items: [], files: [join(folder, "album")], dragOperationsMask: 1 };
    // The place to drop it on comes up with the first of these, and is entered and crossed with the next ones.
    for (const type of ["dragEnter", "dragOver", "dragOver", "dragOver", "drop"]) {
      await hand.send("Input.dispatchDragEvent", { type, x: 300, y: 300, data });
    }
    await help.row(page, "small.png").waitFor();
    await help.row(page, "photo.png").locator("text=ready to fill").waitFor();
    assert.equal(await page.locator("#photo-list li").count(), 2, "a mask and a text are no photos");
  },
};

export const large = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "large.jpg"));
    await help.info(page, "6000 × 4000");
    await help.stroke(page, [1000, 1000], [3000, 2500], [5000, 1200]);
    const size = await page.textContent("#size-value");
    await page.mouse.wheel(0, -300);
    await page.waitForFunction((old) => document.querySelector("#size-value").textContent !== old, size);
    await page.click("[data-tool=rectangle]");
    await help.stroke(page, [4000, 3000], [4500, 3500]);
    await page.click("#invert");
    await page.click("#undo");
    await page.mouse.move(640, 400);
    await page.keyboard.down("Control");
    for (let i = 0; i < 6; i++) await page.mouse.wheel(0, -200);
    await page.keyboard.up("Control");
    await page.click("#fit");
    await shoot("painted");
    await help.saved(page, "#save-mask", join(folder, "large-mask.png"));
    await page.setViewportSize({ width: 3840, height: 2160 });
    await help.noSidewaysScroll(page);
    await shoot("on-4k");
  },
};
