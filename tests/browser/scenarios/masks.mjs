// Holes that are not painted by hand: transparent parts, growing.

import assert from "node:assert/strict";
import { join } from "node:path";
import * as help from "./helpers.mjs";

export const transparent = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "transparent.png"));
    await shoot("offered");
    await help.notice(page, "transparent.png has transparent parts.").getByRole("button", { name: "Make them the hole" }).click();
    await page.locator("#fill:enabled").waitFor();
    await help.saved(page, "#save-mask", join(folder, "transparent-mask.png"));
    assert.equal(await help.notice(page, "transparent parts").count(), 0);
  },
};

export const resized = {
  async run({ page, folder }) {
    await help.choose(page, join(folder, "photo.png"));
    await page.setInputFiles("#mask-file", join(folder, "half.png"));
    await page.locator("#fill:enabled").waitFor();
    await help.saved(page, "#save-mask", join(folder, "resized-mask.png"));
    await page.click("#clear");
    // Dropped among the photos, it is asked about like one of the photo's size.
    await page.setInputFiles("#photo-file", join(folder, "half.png"));
    await page.getByRole("button", { name: "The mask" }).click();
    await page.locator("#fill:enabled").waitFor();
  },
};

export const grow = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "photo.png"));
    await page.setInputFiles("#mask-file", join(folder, "hole.png"));
    await page.locator("#fill:enabled").waitFor();
    const plain = await help.drawn(page, "#over");
    await page.locator("#grow").fill("16");
    await help.changes(page, plain, "#over");
    // The outline is where the grown hole ends: 16 pixels to the right of the hole, and nowhere near.
    const [x, y] = await help.place(page, [200 + 16, 140]);
    const box = await page.locator("#board").boundingBox();
    const alpha = await page.evaluate(
      ([left, top]) => {
        const over = document.querySelector("#over").getContext("2d");
        return [-14, 0, 14].map((d) => Math.max(...over.getImageData(left + d - 3, top, 6, 1).data.filter((_, i) => i % 4 === 3)));
      },
      [Math.round(x - box.x), Math.round(y - box.y)],
    );
    assert.ok(alpha[1] > 120, `a line at the edge: ${alpha}`);
    assert.ok(alpha[0] < 40 && alpha[2] < 40, `and none beside it: ${alpha}`);
    await shoot("outline");
    await help.parameters(page, help.QUICK);
    await page.click("#fill");
    await help.filled(page);
    await help.saved(page, "#download", join(folder, "grown.png"));
    // With a soft edge a second line shows where it ends.
    await page.click("#undo");
    await page.locator("#fill:enabled").waitFor();
    const hard = await help.drawn(page, "#over");
    await page.locator("#feather").fill("12");
    await help.changes(page, hard, "#over");
    await shoot("soft-edge");
    await page.click("#fill");
    await help.filled(page);
    await help.saved(page, "#download", join(folder, "soft.png"));
  },
};

/** disc.png has a disc with the middle (200, 160) and a radius of 60. */
export const snap = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "disc.png"));
    assert.ok(await page.isDisabled("#snap"), "there is no stroke yet");
    // A stroke on the object becomes the object.
    await page.locator("#size").fill("5"); // its square is the brush's size in pixels
    await help.stroke(page, [170, 145], [230, 145], [200, 180]);
    await page.click("#snap");
    await page.locator("#steps [data-kind=snap][aria-current]").waitFor();
    await shoot("stroke");
    await help.saved(page, "#save-mask", join(folder, "snapped-stroke.png"));
    await page.keyboard.press("Control+z");
    await page.keyboard.press("Control+z");
    await page.locator("#fill:disabled").waitFor();
    // So does a rectangle around it.
    await page.keyboard.press("r");
    await help.stroke(page, [120, 85], [285, 240]);
    await page.keyboard.press("s");
    await page.locator("#steps [data-kind=snap][aria-current]").waitFor();
    await shoot("rectangle");
    await help.saved(page, "#save-mask", join(folder, "snapped-rectangle.png"));
    await page.click("#clear");
    // A hole that cuts through the object: it is said so, and can be grown.
    await help.stroke(page, [120, 85], [230, 240]);
    const suggestion = help.notice(page, "The object seems to go on outside of the hole.");
    await suggestion.waitFor();
    await help.accessible(page, "a hole that cuts an object");
    await shoot("cut");
    await suggestion.getByRole("button", { name: "Grow the hole" }).click();
    await page.locator("#steps [data-kind=grow][aria-current]").waitFor();
    await help.saved(page, "#save-mask", join(folder, "grown-to-object.png"));
  },
};
