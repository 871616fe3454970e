// How the page looks: the first visit, phones, colours, languages.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as help from "./helpers.mjs";

export const welcome = {
  async run({ page, shoot }) {
    await help.accessible(page, "welcome");
    await shoot("empty");
    assert.ok(await page.isHidden("#camera"), "for phones");
    await page.click("#sample");
    await help.info(page, "1920 × 1080");
    await page.locator("#fill:enabled").waitFor();
    await help.accessible(page, "sample");
    await shoot("sample");
    // Beside the side panel the dock keeps all that it has in sight.
    for (const width of [900, 1100, 1280, 1440]) {
      await page.setViewportSize({ width, height: 800 });
      const [dock, stage] = await page.evaluate(() =>
        ["#fill", "#stage"].map((one) => document.querySelector(one).getBoundingClientRect().right),
      );
      assert.ok(dock <= stage, `in a window of ${width}, Fill ends at ${dock}, the stage at ${stage}`);
    }
  },
};

export const address = {
  async run({ page, folder }) {
    await page.fill("#address", "http://127.0.0.1/photo.png");
    await page.keyboard.press("Enter");
    await help.notice(page, "The address could not be opened").waitFor();
    const file = (await readFile(join(folder, "photo.png"))).toString("base64");
    await page.fill("#address", `data:image/png;base64,${file}`);
    await page.keyboard.press("Enter");
    await help.info(page, "photo.png, 384 × 320");
    // The same by dragging a picture from another page.
    const dragged = await page.evaluateHandle((data) => {
      const transfer = new DataTransfer();
      transfer.setData("text/uri-list", `data:image/png;base64,${data}`);
      return transfer;
    }, file);
    await page.dispatchEvent("#board", "drop", { dataTransfer: dragged });
    await page.locator("#photo-list li").nth(1).waitFor();
    // And by pasting it.
    await page.evaluate((address) => {
      const clipboardData = new DataTransfer();
      clipboardData.setData("text/plain", address);
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    }, new URL("/page/files/sample.jpg", page.url()).href);
    await help.info(page, "sample.jpg, 1920 × 1080");
  },
};

export const phone = {
  options: help.PHONE,
  async run({ page, context, folder, shoot }) {
    await help.noSidewaysScroll(page);
    await help.accessible(page, "welcome on a phone");
    await shoot("empty");
    assert.equal(await page.getAttribute("#camera-file", "capture"), "environment");
    assert.ok(await page.isVisible("#camera"));
    await help.choose(page, join(folder, "upright.jpg"));
    assert.match(await page.textContent("#photo-info"), /320 × 384/, "as it was held");
    const inSight = async (selector) => {
      const { width, height } = page.viewportSize();
      const box = await page.locator(selector).boundingBox();
      assert.ok(box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height, `${selector} is out of sight`);
    };
    const half = async () => {
      const { width, height } = page.viewportSize();
      const box = await page.locator("#board").boundingBox();
      assert.ok(box.width * box.height >= (width * height) / 2, `the photo has ${box.width} x ${box.height} of ${width} x ${height}`);
    };
    for (const one of ["#fill", "[data-tool=brush]", "#redo", "#size"]) await inSight(one);
    await half();
    const touch = await context.newCDPSession(page);
    const [x, y] = await help.place(page, [160, 200]);
    const send = (type, ...touchPoints) => touch.send("Input.dispatchTouchEvent", { type, touchPoints });
    await send("touchStart", { x, y });
    await send("touchMove", { x: x + 30, y: y + 30 });
    await send("touchEnd");
    await page.locator("#fill:enabled").waitFor();
    const fingers = (far) => [{ x: x - far, y, id: 0 }, { x: x + far, y, id: 1 }];
    const before = await help.drawn(page, "#over");
    await send("touchStart", ...fingers(20).slice(0, 1));
    await send("touchStart", ...fingers(20));
    await send("touchMove", ...fingers(60));
    await send("touchEnd");
    await help.changes(page, before, "#over");
    await page.tap("#undo"); // the stroke: two fingers have painted nothing
    await page.locator("#fill:disabled").waitFor();
    await page.tap("#redo");
    await help.noSidewaysScroll(page);
    await help.accessible(page, "painted on a phone");
    await shoot("painted");
    await page.tap("#panel-toggle");
    await help.accessible(page, "panel on a phone");
    await shoot("panel");
    await help.parameters(page, help.QUICK);
    await page.tap("#panel-close");
    await page.tap("#fit");
    const cancelable = page.waitForFunction(() => {
      const { width, right, bottom } = document.querySelector("#cancel").getBoundingClientRect();
      return width > 0 && right <= innerWidth && bottom <= innerHeight;
    });
    await page.tap("#fill");
    await cancelable;
    await help.filled(page);
    for (const one of ["#download", "#fill", "#peek"]) await inSight(one);
    await shoot("filled");
    await page.setViewportSize({ width: 844, height: 390 });
    for (const one of ["#fill", "[data-tool=brush]", "#redo", "#size"]) await inSight(one);
    await half();
    await help.noSidewaysScroll(page);
    await shoot("landscape");
  },
};

export const dark = {
  options: { colorScheme: "dark" },
  async run({ page, folder, shoot }) {
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await help.accessible(page, "empty");
    const night = await ground();
    await help.choose(page, join(folder, "photo.png"));
    await help.stroke(page, [150, 120], [210, 150]);
    await page.click("#options summary");
    await help.accessible(page, "painted");
    await shoot("painted");
    await page.setInputFiles("#photo-file", join(folder, "broken.jpg"));
    await help.notice(page, "broken.jpg").waitFor();
    await help.accessible(page, "in trouble");
    await shoot("trouble");

    // By choice, and kept.
    await page.click("#theme");
    assert.equal(await ground(), night, "dark, as the system is");
    await page.click("#theme");
    assert.notEqual(await ground(), night, "light, by choice");
    await page.reload();
    assert.notEqual(await ground(), night);
    await help.accessible(page, "light by choice");
    // The side panel makes way.
    const narrow = await page.locator("#board").boundingBox();
    await page.click("#panel-toggle");
    await page.waitForFunction((width) => document.querySelector("#board").clientWidth > width, narrow.width);
    await shoot("wide");
    await page.reload();
    await page.locator("#board").waitFor();
    assert.ok(await page.isHidden("#panel"), "as it was left");
  },
};

export const chinese = {
  options: { locale: "zh-CN" },
  async run({ page, folder, shoot }) {
    assert.equal(await page.getAttribute("html", "lang"), "zh-Hans");
    await page.getByRole("button", { name: "试试示例照片" }).waitFor();
    await shoot("empty");
    await help.choose(page, join(folder, "photo.png"));
    await page.locator("#plan", { hasText: "请涂抹要去掉的部分。" }).waitFor();
    await help.stroke(page, [150, 120], [210, 150]);
    await help.accessible(page, "in Chinese");
    await help.parameters(page, "iterations=9000");
    await page.click("#fill");
    await help.notice(page, "iterations 应为 1 到 200 之间的整数。").getByRole("button", { name: "再试一次" }).waitFor();
    await help.parameters(page, help.REFINED);
    await page.click("#fill");
    await page.locator("#progress-text", { hasText: /第一遍|正在细化/ }).waitFor();
    await help.filled(page);
    await shoot("filled");
    // No text is left in the other language but names, units and keys.
    const latin = await page.evaluate(() =>
      [...document.querySelectorAll("body *:not(script, style, pre, code, option)")]
        .filter((one) => one.checkVisibility() && !one.closest("#photo-info, #photo-list, #call"))
        .flatMap((one) => [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()))
        .filter((text) => /[a-z]{4}/.test(text) && !/[\u4e00-\u9fff]/.test(text)),
    );
    const names = /^(lama-refinery|Python|JavaScript|curl|OpenAPI)$|migan|px|_|=|python -m/;
    assert.deepEqual(latin.filter((text) => !names.test(text)), []);
    await page.selectOption("#language", "en");
    await page.locator("#plan", { hasText: "Filled in" }).waitFor();
    await page.getByRole("button", { name: "Add photos" }).waitFor();
    await page.reload();
    await page.getByRole("button", { name: "Add photos" }).waitFor();
  },
};
