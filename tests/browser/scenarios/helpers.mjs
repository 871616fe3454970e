// What the scenarios share: finding a place on the photo, painting, waiting for states.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { savedByFirefox } from "../firefox.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
export const QUICK = "preset=single-pass";
export const REFINED = "iterations=2\nmax_scales=2\nmin_side=64\nlargest_bridged_ratio=0";
export const LONG = "iterations=200\nmin_side=64\nlargest_bridged_ratio=0";
export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

export const isFirefox = (page) => page.context().browser().browserType().name() === "firefox";

/** empty, edit or running. */
export const state = (page, wanted) => page.locator(`body[data-state="${wanted}"]`).waitFor();

export const info = (page, text) => page.locator("#photo-info", { hasText: text }).waitFor();

export const notice = (page, text) => page.locator(".notice", { hasText: text });

/** A row of the list of photos. */
export const row = (page, name) => page.locator(`#photo-list li[data-photo="${name}"]`);

/** Ends when the photo is shown as it is after so many steps. */
export const shown = (page, steps) => page.locator(`#board[data-shown="${steps}"]`).waitFor();

export const filled = (page) => page.locator("#download:enabled").waitFor();

/** Ends once nothing is being written to the browser's database. */
export const kept = (page) => page.waitForTimeout(300);

export async function choose(page, file) {
  await page.setInputFiles("#photo-file", file);
  await state(page, "edit");
}

/** Where a pixel of the photo is on the screen while all of it is shown. */
export async function place(page, [x, y]) {
  const [, width, height] = (await page.textContent("#photo-info")).match(/(\d+) × (\d+)/).map(Number);
  const box = await page.locator("#board").boundingBox();
  const scale = Math.min(box.width / width, box.height / height, 4 / (await page.evaluate(() => devicePixelRatio)));
  return [box.x + box.width / 2 + (x - width / 2) * scale, box.y + box.height / 2 + (y - height / 2) * scale];
}

export async function stroke(page, ...points) {
  const places = [];
  for (const point of points) places.push(await place(page, point));
  await page.mouse.move(...places[0]);
  await page.mouse.down();
  for (const at of places.slice(1)) await page.mouse.move(...at, { steps: 6 });
  await page.mouse.up();
}

export async function parameters(page, lines) {
  await page.evaluate(() => document.querySelector("#options details").setAttribute("open", ""));
  await page.evaluate((text) => {
    const more = document.querySelector("#more");
    more.value = text;
    more.dispatchEvent(new Event("input", { bubbles: true }));
  }, lines);
}

/** A photo with a hole, and parameters. */
export async function prepare(page, folder, lines = QUICK) {
  await choose(page, join(folder, "photo.png"));
  await page.setInputFiles("#mask-file", join(folder, "hole.png")); // strokes are too thin to take long
  await page.locator("#fill:enabled").waitFor();
  await parameters(page, lines);
}

/** A job that nobody waits for the end of. */
export async function begin(page, folder) {
  await prepare(page, folder, LONG);
  await page.click("#fill");
  await page.locator("#progress-text", { hasText: /pass|sharpening/i }).waitFor();
}

export async function saved(page, button, path) {
  if (isFirefox(page)) return savedByFirefox(page, button, path);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  await download.saveAs(path);
  return download.suggestedFilename();
}

/** What is on the canvas of the photo, or of the hole over it. */
export const drawn = (page, canvas = "#base") =>
  page.evaluate((id) => new Promise((done) => requestAnimationFrame(() => done(document.querySelector(id).toDataURL()))), canvas);

export const becomes = (page, picture, canvas = "#base") =>
  page.waitForFunction(([id, old]) => document.querySelector(id).toDataURL() === old, [canvas, picture]);

export const changes = (page, picture, canvas = "#base") =>
  page.waitForFunction(([id, old]) => document.querySelector(id).toDataURL() !== old, [canvas, picture]);

/** Files as a person drags or pastes them. */
export async function carried(page, folder, names) {
  const files = [];
  for (const name of names) files.push([name, [...(await readFile(join(folder, name)))]]);
  return page.evaluateHandle((all) => {
    const transfer = new DataTransfer();
    for (const [name, bytes] of all) {
      const type = name.endsWith("png") ? "image/png" : "image/jpeg";
      transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
    }
    return transfer;
  }, files);
}

/** axe finds nothing. */
export async function accessible(page, where) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(await readFile(AXE, "utf8"));
  const found = await page.evaluate(() => window.axe.run());
  const told = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  assert.deepEqual(told, [], where);
}

export async function noSidewaysScroll(page) {
  const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(inner <= outer, `the page is ${inner} pixels wide in a window of ${outer}`);
}
