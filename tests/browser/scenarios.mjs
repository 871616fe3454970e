// What people do on the page, one after the other as a person would.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const QUICK = "iterations=2\nmax_scales=2\nmin_side=64\nreach=0";
const LONG = "iterations=200\nmin_side=64\nreach=0";
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };

const state = (page, wanted) => page.locator(`body[data-state="${wanted}"]`).waitFor();

async function choose(page, file) {
  await page.setInputFiles("#photo-file", file);
  await state(page, "edit");
}

/** Where a pixel of the photo is on the screen while all of it is shown. */
async function place(page, [x, y]) {
  const [, width, height] = (await page.textContent("#photo-told")).match(/(\d+) × (\d+)/).map(Number);
  const box = await page.locator("#board").boundingBox();
  const scale = Math.min(box.width / width, box.height / height, 4 / (await page.evaluate(() => devicePixelRatio)));
  return [box.x + box.width / 2 + (x - width / 2) * scale, box.y + box.height / 2 + (y - height / 2) * scale];
}

async function stroke(page, ...points) {
  const places = [];
  for (const point of points) places.push(await place(page, point));
  await page.mouse.move(...places[0]);
  await page.mouse.down();
  for (const at of places.slice(1)) await page.mouse.move(...at, { steps: 6 });
  await page.mouse.up();
}

async function wish(page, more) {
  await page.evaluate(() => document.querySelector("#wishes details").setAttribute("open", ""));
  await page.fill("#more", more);
}

/** A job that nobody waits for the end of. */
async function begin(page, folder) {
  await choose(page, join(folder, "photo.png"));
  await page.setInputFiles("#mask-file", join(folder, "hole.png")); // strokes are too thin to take long
  await wish(page, LONG);
  await page.locator("#send:enabled").click();
  await page.locator("#progress-told", { hasText: /scale/i }).waitFor();
}

async function saved(page, button, path) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  await download.saveAs(path);
  return download.suggestedFilename();
}

/** Nothing that axe calls serious or critical. */
async function accessible(page, where) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(await source(AXE));
  const found = await page.evaluate(() => window.axe.run());
  const bad = found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const told = bad.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  assert.deepEqual(told, [], where);
}

async function source(path) {
  const { readFile } = await import("node:fs/promises");
  return readFile(path, "utf8");
}

async function noSidewaysScroll(page) {
  const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(inner <= outer, `the page is ${inner} pixels wide in a window of ${outer}`);
}

export const scenarios = {
  fill: {
    async run({ page, folder, shoot }) {
      const previews = [];
      page.on("response", (answer) => /\/preview$/.test(answer.url()) && answer.ok() && previews.push(answer.status()));
      await accessible(page, "empty");
      await shoot("empty");
      await choose(page, join(folder, "photo.png"));
      assert.ok(await page.isDisabled("#send"), "there is nothing to fill yet");
      await stroke(page, [150, 120], [210, 150]);
      await page.click("#undo");
      assert.ok(await page.isDisabled("#send"), "undone");
      await page.click("#redo");
      await page.click("[data-tool=rectangle]");
      await stroke(page, [100, 150], [130, 200]);
      await page.click("[data-tool=lasso]");
      await stroke(page, [250, 60], [300, 60], [275, 110], [250, 60]);
      await page.click("[data-tool=eraser]");
      await stroke(page, [180, 135], [182, 136]);
      await wish(page, QUICK);
      await page.locator("#plan", { hasText: "window" }).waitFor();
      await accessible(page, "painted");
      await shoot("painted");
      await saved(page, "#save-mask", join(folder, "mask.png"));
      await page.click("#send");
      await page.locator("#progress-told", { hasText: /scale \d of \d, iteration/i }).waitFor();
      await page.locator("#board[data-preview]").waitFor();
      await shoot("running");
      await state(page, "done");
      assert.ok(previews.length > 0, "a preview was fetched");
      assert.equal(await saved(page, "#download", join(folder, "result.png")), "photo-refined.png");
      const before = await page.evaluate(() => document.querySelector("#base").toDataURL());
      await page.focus("#split");
      await page.keyboard.press("Home");
      await page.waitForFunction((old) => document.querySelector("#base").toDataURL() !== old, before);
      await page.locator("#split").fill("500");
      await page.click("#calls summary");
      for (const language of ["curl", "python", "javascript"]) {
        await page.click(`[data-language=${language}]`);
        const text = await page.textContent("#call");
        assert.match(text, /min_side/, language);
        await import("node:fs/promises").then(({ writeFile }) => writeFile(join(folder, `call.${language}`), text));
      }
      await accessible(page, "done");
      await shoot("done");
      await page.click("#go-on");
      await state(page, "edit");
      assert.match(await page.textContent("#photo-told"), /^photo-refined\.png, 384 × 320/);
      assert.ok(await page.isDisabled("#send"), "a new hole");
    },
  },

  dark: {
    options: { colorScheme: "dark" },
    async run({ page, folder, shoot }) {
      await accessible(page, "empty");
      await choose(page, join(folder, "photo.png"));
      await stroke(page, [150, 120], [210, 150]);
      await page.click("#wishes summary");
      await accessible(page, "painted");
      await shoot("painted");
      await page.setInputFiles("#photo-file", join(folder, "broken.jpg"));
      await page.locator("#trouble:visible").waitFor();
      await accessible(page, "in trouble");
    },
  },

  cancel: {
    async run({ page, folder, shoot }) {
      await begin(page, folder);
      await page.click("#cancel");
      await state(page, "edit");
      await page.locator("#plan", { hasText: "Canceled" }).waitFor();
      await page.locator("#job-list li", { hasText: "canceled" }).waitFor();
      assert.ok(await page.isEnabled("#send"), "the hole is still there");
      await shoot("canceled");
    },
  },

  reload: {
    async run({ page, folder, shoot }) {
      await begin(page, folder);
      await page.reload();
      await state(page, "running");
      await page.locator("#progress-told", { hasText: /scale/i }).waitFor();
      await page.click("#cancel");
      await state(page, "edit");
      await wish(page, QUICK);
      await page.click("#send");
      await state(page, "done");
      await page.reload();
      await page.locator("#job-list li", { hasText: "succeeded" }).getByRole("button", { name: /^Open/ }).click();
      await state(page, "done");
      assert.ok(await page.isVisible("#split"), "photo and result are there to be compared");
      await shoot("reopened");
      await page.locator("#job-list li", { hasText: "succeeded" }).getByRole("button", { name: /^Delete/ }).click();
      await page.locator("#job-list li", { hasText: "succeeded" }).waitFor({ state: "detached" });
    },
  },

  broken: {
    async run({ page, folder, shoot }) {
      await page.setInputFiles("#photo-file", join(folder, "broken.jpg"));
      await page.locator("#trouble", { hasText: "broken.jpg cannot be shown" }).waitFor();
      await state(page, "empty");
      await choose(page, join(folder, "photo.png"));
      assert.ok(await page.isHidden("#trouble"), "what was wrong is over");
      await page.setInputFiles("#mask-file", join(folder, "small.png"));
      await page.locator("#trouble", { hasText: "must have the same size" }).waitFor();
      await page.setInputFiles("#mask-file", join(folder, "hole.png"));
      await page.locator("#send:enabled").waitFor();
      await wish(page, "iterations=9000");
      await page.click("#send");
      await page.locator("#trouble", { hasText: /^iterations: should be less than or equal to 200\.$/ }).waitFor();
      await state(page, "edit");
      await shoot("refused");
    },
  },

  drop: {
    async run({ page, folder, shoot }) {
      const files = [];
      for (const name of ["photo.png", "hole.png", "small.png"]) {
        files.push([name, [...(await import("node:fs")).readFileSync(join(folder, name))]]);
      }
      const carried = await page.evaluateHandle((all) => {
        return all.map(([name, bytes]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
          return transfer;
        });
      }, files);
      const [photo, hole, small] = await Promise.all([0, 1, 2].map((i) => carried.evaluateHandle((all, n) => all[n], i)));
      await page.dispatchEvent("body", "dragover", { dataTransfer: photo });
      assert.ok(await page.isHidden("[data-zone=mask]"), "there is no photo that it could be the mask of");
      await page.dispatchEvent("[data-zone=photo]", "drop", { dataTransfer: photo });
      await state(page, "edit");
      await page.dispatchEvent("body", "dragover", { dataTransfer: hole });
      await shoot("over");
      await page.dispatchEvent("[data-zone=mask]", "drop", { dataTransfer: hole });
      await page.locator("#send:enabled").waitFor();
      await page.evaluate((data) => {
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
      }, small);
      await page.locator("#photo-told", { hasText: "96 × 80" }).waitFor();
    },
  },

  phone: {
    options: PHONE,
    async run({ page, context, folder, shoot }) {
      await noSidewaysScroll(page);
      await choose(page, join(folder, "upright.jpg"));
      assert.match(await page.textContent("#photo-told"), /320 × 384/, "as it was held");
      const touch = await context.newCDPSession(page);
      const [x, y] = await place(page, [160, 200]);
      await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: [{ x, y }] });
      await touch.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: [{ x: x + 30, y: y + 30 }] });
      await touch.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
      await page.locator("#send:enabled").waitFor();
      const fingers = (far) => [
        { x: x - far, y, id: 0 },
        { x: x + far, y, id: 1 },
      ];
      const size = await page.evaluate(() => document.querySelector("#over").toDataURL());
      await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: fingers(20).slice(0, 1) });
      await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: fingers(20) });
      await touch.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: fingers(60) });
      await touch.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
      await page.waitForFunction((old) => document.querySelector("#over").toDataURL() !== old, size);
      await page.click("#undo"); // the stroke: two fingers have painted nothing
      await page.locator("#send:disabled").waitFor();
      await page.click("#redo");
      await noSidewaysScroll(page);
      await accessible(page, "painted on a phone");
      await shoot("painted");
      await wish(page, QUICK);
      await page.tap("#send");
      await state(page, "done");
      await noSidewaysScroll(page);
      await page.evaluate(() => scrollTo(0, 0));
      await shoot("done");
    },
  },

  keyboard: {
    async run({ page, folder, shoot }) {
      await choose(page, join(folder, "photo.png"));
      const tab = async (to) => {
        for (let i = 0; i < 40; i++) {
          if (await page.evaluate((id) => document.activeElement?.id === id, to)) return;
          await page.keyboard.press("Tab");
        }
        assert.fail(`Tab does not lead to ${to}`);
      };
      await tab("board");
      await page.locator("#ring:visible").waitFor();
      for (const key of ["]", "]", "ArrowLeft", "Space", "Shift+ArrowRight", "Shift+ArrowDown"]) await page.keyboard.press(key);
      await page.locator("#send:enabled").waitFor();
      await page.keyboard.press("Control+z");
      await page.keyboard.press("Control+z");
      await page.keyboard.press("Control+z");
      await page.locator("#send:disabled").waitFor();
      for (const key of ["r", "Space", "ArrowRight", "ArrowRight", "ArrowDown", "Space"]) await page.keyboard.press(key);
      await page.locator("#send:enabled").waitFor();
      for (const key of ["l", "Space", "ArrowLeft", "Space", "ArrowUp", "Space", "Enter"]) await page.keyboard.press(key);
      await shoot("painted");
      await wish(page, QUICK);
      await tab("send");
      await page.keyboard.press("Enter");
      await state(page, "done");
      await tab("split");
      await page.keyboard.press("ArrowLeft");
      assert.equal(await page.inputValue("#split"), "499");
    },
  },

  tools: {
    async run({ page, context, folder }) {
      const over = () => page.evaluate(() => document.querySelector("#over").toDataURL());
      const other = (old) => page.waitForFunction((was) => document.querySelector("#over").toDataURL() !== was, old);
      const again = (old) => page.waitForFunction((was) => document.querySelector("#over").toDataURL() === was, old);
      await choose(page, join(folder, "photo.png"));
      const clean = await over();
      await stroke(page, [150, 120], [210, 150]);
      await page.locator("#send:enabled").waitFor();
      const painted = await over();
      await page.click("#clear");
      await page.locator("#send:disabled").waitFor();
      await again(clean);
      await page.click("#undo");
      await page.locator("#send:enabled").waitFor();
      await again(painted);
      await page.click("[data-tool=move]");
      await page.click("#zoom-in");
      await other(painted);
      const near = await over();
      await stroke(page, [150, 120], [210, 150]);
      await other(near);
      await page.click("#fit");
      await again(painted); // moving has painted nothing
      await page.click("#clear");
      await page.click("[data-tool=brush]");
      const pen = await context.newCDPSession(page);
      const drawn = async (button, buttons) => {
        for (const [type, at] of [["mousePressed", [150, 120]], ["mouseMoved", [210, 150]], ["mouseReleased", [210, 150]]]) {
          const [x, y] = await place(page, at);
          const held = type === "mouseReleased" ? 0 : buttons;
          await pen.send("Input.dispatchMouseEvent", { type, x, y, button, buttons: held, pointerType: "pen", force: 0.5 });
        }
      };
      await drawn("left", 1);
      await page.locator("#send:enabled").waitFor();
      await other(clean);
    },
  },

  large: {
    async run({ page, folder, shoot }) {
      await choose(page, join(folder, "large.jpg"));
      assert.match(await page.textContent("#photo-told"), /6000 × 4000/);
      await stroke(page, [1000, 1000], [3000, 2500], [5000, 1200]);
      const size = await page.textContent("#size-told");
      await page.mouse.wheel(0, -300);
      await page.waitForFunction((old) => document.querySelector("#size-told").textContent !== old, size);
      await page.click("[data-tool=rectangle]");
      await stroke(page, [4000, 3000], [4500, 3500]);
      await page.click("#invert");
      await page.click("#undo");
      await page.mouse.move(640, 400);
      await page.keyboard.down("Control");
      for (let i = 0; i < 6; i++) await page.mouse.wheel(0, -200);
      await page.keyboard.up("Control");
      await page.click("#fit");
      await shoot("painted");
      await saved(page, "#save-mask", join(folder, "large-mask.png"));
      await page.setViewportSize({ width: 3840, height: 2160 });
      await noSidewaysScroll(page);
      await shoot("on-4k");
    },
  },

  key: {
    async run({ page, folder, shoot }) {
      assert.ok(await page.isHidden("#key-dialog"), "nothing was asked for yet");
      await choose(page, join(folder, "photo.png"));
      await stroke(page, [150, 120], [210, 150]);
      await page.locator("#key-dialog:visible").waitFor();
      await accessible(page, "asking for a key");
      await shoot("asked");
      await page.fill("#key", "wrong");
      await page.keyboard.press("Enter");
      await page.locator("#key-why", { hasText: "No such API key" }).waitFor();
      await page.fill("#key", process.env.API_KEY);
      await page.keyboard.press("Enter");
      await page.locator("#plan", { hasText: "window" }).waitFor();
      await page.click("#send");
      await page.locator("#progress-told", { hasText: "Waiting: next in the queue." }).waitFor();
      await page.click("#cancel");
      await state(page, "edit");
    },
  },

  // For the README, by hand:
  // CHROMIUM=/usr/bin/chromium node tests/browser/drive.mjs portrait http://127.0.0.1:8000 demo
  portrait: {
    options: { viewport: { width: 1280, height: 720 } },
    async run({ page, folder, shoot }) {
      page.setDefaultTimeout(280_000);
      await choose(page, join(folder, "photo.jpg"));
      await page.setInputFiles("#mask-file", join(folder, "mask.png"));
      await page.locator("#send:enabled").click();
      await page.locator("#board[data-preview]").waitFor();
      await shoot("running");
      await state(page, "done");
      await page.locator("#split").fill("408");
      await page.mouse.move(5, 5);
      await shoot("done");
      await page.click("#again");
      await page.locator("#plan", { hasText: "window" }).waitFor(); // timed by the job before
      await page.mouse.move(5, 5);
      await shoot("painted");
    },
  },
};
