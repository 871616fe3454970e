// From a photo to a result: painting, filling, history, comparing, downloading.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as help from "./helpers.mjs";

const steps = (page) => page.locator("#steps button");

export const fill = {
  async run({ page, folder, shoot }) {
    const previews = [];
    page.on("response", (answer) => /\/preview$/.test(answer.url()) && answer.ok() && previews.push(answer.status()));
    await help.choose(page, join(folder, "photo.png"));
    await page.locator("#plan", { hasText: "Paint over what should go." }).waitFor();
    assert.ok(await page.isDisabled("#fill"), "there is nothing to fill yet");
    await help.stroke(page, [150, 120], [210, 150]);
    await page.click("#undo");
    assert.ok(await page.isDisabled("#fill"), "undone");
    await page.click("#redo");
    await page.click("[data-tool=rectangle]");
    await help.stroke(page, [100, 150], [130, 200]);
    await page.click("[data-tool=lasso]");
    await help.stroke(page, [250, 60], [300, 60], [275, 110], [250, 60]);
    await page.click("[data-tool=eraser]");
    await help.stroke(page, [180, 135], [182, 136]);
    await help.parameters(page, help.REFINED);
    await page.locator("#plan", { hasText: /^Will take/ }).waitFor();
    await help.accessible(page, "painted");
    await shoot("painted");
    await help.saved(page, "#save-mask", join(folder, "mask.png"));

    const before = await page.locator("#board").boundingBox();
    await page.click("#fill");
    await page.locator("#progress-text", { hasText: /^(First pass, coarse|Sharpening 1 of 1)$/ }).waitFor();
    assert.deepEqual(await page.locator("#board").boundingBox(), before, "the photo has not moved");
    assert.ok(await page.isVisible("[data-tool=brush]"), "the tools are still there");
    await shoot("running");
    await help.filled(page);
    assert.deepEqual(await page.locator("#board").boundingBox(), before, "nor when the job has ended");
    assert.ok(previews.length > 0, "a preview was fetched");
    await page.locator("#plan", { hasText: /^Filled in/ }).waitFor();
    assert.ok(await page.isDisabled("#fill"), "a new hole");
    assert.equal(await help.saved(page, "#download", join(folder, "result.png")), "photo-filled.png");
    await page.click("#calls summary");
    for (const language of ["curl", "python", "javascript"]) {
      await page.click(`[data-language=${language}]`);
      const text = await page.textContent("#call");
      assert.match(text, /min_side/, language);
      await writeFile(join(folder, `call.${language}`), text);
    }
    await help.accessible(page, "filled");
    await shoot("filled");
  },
};

export const history = {
  async run({ page, folder, shoot }) {
    await help.prepare(page, folder);
    await help.shown(page, 1);
    const original = await help.drawn(page);
    const [x, y] = await help.place(page, [175, 140]); // in the hole
    const box = await page.locator("#board").boundingBox();
    await page.evaluate(([left, top]) => {
      const base = document.querySelector("#base").getContext("2d");
      const colours = (window.coloursAfterTheJob = new Set());
      let ran = false;
      const look = () => {
        ran ||= document.body.dataset.state === "running";
        if (ran && document.body.dataset.state === "edit") colours.add(base.getImageData(left, top, 1, 1).data.join());
      };
      const frame = () => {
        setTimeout(look); // after this frame was drawn
        if (window.coloursAfterTheJob) requestAnimationFrame(frame);
      };
      frame();
    }, [Math.round(x - box.x), Math.round(y - box.y)]);
    await page.click("#fill");
    await help.shown(page, 2);
    const first = await help.drawn(page);
    assert.notEqual(first, original);
    const seen = await page.evaluate(() => [...window.coloursAfterTheJob]);
    await page.evaluate(() => delete window.coloursAfterTheJob);
    assert.equal(seen.length, 1, `the photo without its hole does not flash up: ${seen.join(" ")}`);
    await page.click("[data-tool=rectangle]");
    await help.stroke(page, [20, 20], [60, 60]);
    await page.click("#fill");
    await help.shown(page, 4);
    const second = await help.drawn(page);
    assert.deepEqual(
      await steps(page).evaluateAll((all) => all.map((one) => one.dataset.kind)),
      ["original", "mask", "fill", "rectangle", "fill"],
    );
    assert.equal(await help.saved(page, "#download", join(folder, "twice.png")), "photo-filled.png", "not -filled-filled");

    await shoot("two-results");
    await page.keyboard.press("Control+z");
    await help.becomes(page, first);
    assert.ok(await page.isEnabled("#fill"), "the second hole is back");
    await page.keyboard.press("Control+z");
    await page.keyboard.press("Control+z");
    await help.becomes(page, original);
    assert.ok(await page.isEnabled("#fill"), "the first hole is back");
    for (let i = 0; i < 3; i++) await page.keyboard.press("Control+Shift+z");
    await help.becomes(page, second);
    await steps(page).first().click();
    await help.becomes(page, original);
    assert.ok(await page.isDisabled("#download"), "this is the original");
    await steps(page).last().click();
    await help.becomes(page, second);

    // Before is the original, or the last step.
    await page.keyboard.down("x");
    await help.becomes(page, original);
    await page.keyboard.up("x");
    await help.becomes(page, second);
    await page.selectOption("#before", "last");
    await page.focus("#board");
    await page.keyboard.down("x");
    await help.becomes(page, first);
    await page.keyboard.up("x");
    await help.becomes(page, second);
  },
};

export const compare = {
  async run({ page, folder, shoot }) {
    await help.prepare(page, folder);
    await help.shown(page, 1);
    const original = await help.drawn(page);
    await page.click("#fill");
    await help.shown(page, 2);
    const result = await help.drawn(page);
    await page.click("#divide");
    const middle = async () => {
      const box = await page.locator("#divider").boundingBox();
      return [box.x + box.width / 2, box.y + box.height / 3];
    };
    const [x] = await middle();
    const [wanted] = await help.place(page, [175, 0]); // hole.png has its hole from 150 to 200
    assert.ok(Math.abs(x - wanted) < 3, `the divider is at ${x}, the hole's middle at ${wanted}`);
    await help.accessible(page, "comparing");
    await shoot("divider");

    // Each end shows one of the two alone.
    const drag = async (to) => {
      await page.mouse.move(...(await middle()));
      await page.mouse.down();
      await page.mouse.move(...to, { steps: 4 });
      await page.mouse.up();
    };
    const board = await page.locator("#board").boundingBox();
    await drag([board.x + board.width - 3, board.y + 100]);
    await help.becomes(page, original);
    await page.keyboard.press("Home"); // the divider has the focus
    await help.becomes(page, result);
    await page.keyboard.press("End");
    await help.becomes(page, original);
    await page.keyboard.press("ArrowLeft");
    assert.equal(await page.getAttribute("#divider", "aria-valuenow"), "99");
    await help.changes(page, original);

    // The place stays the same in both.
    await page.click("#divide");
    await help.becomes(page, result);
    await page.click("#zoom-in");
    await page.click("#zoom-in");
    await help.changes(page, result);
    const near = await help.drawn(page);
    await page.locator("#peek").hover();
    await page.mouse.down();
    await page.locator("#peeking:visible").waitFor();
    await help.changes(page, near);
    await page.mouse.up();
    await help.becomes(page, near);

    // Held, Tab shows the original, and the focus stays where it was.
    await page.focus("#board");
    await page.keyboard.down("Tab");
    await page.keyboard.down("Tab"); // as a key that is held repeats
    await page.locator("#peeking:visible").waitFor();
    await page.keyboard.up("Tab");
    await page.locator("#peeking").waitFor({ state: "hidden" });
    assert.equal(await page.evaluate(() => document.activeElement.id), "board");
    await page.keyboard.press("Tab");
    assert.notEqual(await page.evaluate(() => document.activeElement.id), "board", "a tap moves the focus");
  },
};
