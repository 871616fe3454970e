// Holes that are not painted by hand: transparent parts, growing.

import assert from "node:assert/strict";
import { join } from "node:path";
import * as help from "./helpers.mjs";

export const transparent = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "transparent.png"));
    await shoot("offered");
    await help.notice(page, "This photo has transparent parts.").getByRole("button", { name: "Make them the hole" }).click();
    await page.locator("#fill:enabled").waitFor();
    await help.saved(page, "#save-mask", join(folder, "transparent-mask.png"));
    assert.equal(await help.notice(page, "transparent parts").count(), 0);
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
  },
};
