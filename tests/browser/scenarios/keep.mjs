// Nothing is lost: reloads, deletions, new photos.

import assert from "node:assert/strict";
import { join } from "node:path";
import * as help from "./helpers.mjs";

export const reload = {
  async run({ page, folder, shoot }) {
    // A hole that was not sent.
    await help.choose(page, join(folder, "photo.png"));
    await help.stroke(page, [150, 120], [210, 150]);
    await page.click("[data-tool=rectangle]");
    await help.stroke(page, [100, 150], [130, 200]);
    await page.click("#invert");
    await page.keyboard.press("Control+z");
    await help.kept(page);
    const painted = await help.drawn(page, "#over");
    await page.reload();
    await help.becomes(page, painted, "#over");
    assert.ok(await page.isEnabled("#redo"), "undone steps are there too");
    await page.click("#undo");
    await page.click("#undo");
    await page.locator("#fill:disabled").waitFor();
    await page.click("#redo");
    await page.click("#redo");
    await help.becomes(page, painted, "#over");

    // A running job.
    await page.setInputFiles("#mask-file", join(folder, "hole.png"));
    await help.parameters(page, help.LONG);
    await page.click("#fill");
    await page.locator("#progress-text", { hasText: /sharpening/i }).waitFor();
    await page.reload();
    await help.state(page, "running");
    await page.locator("#progress-text", { hasText: /sharpening/i }).waitFor();
    await page.click("#cancel");
    await help.state(page, "edit");
    assert.ok(await page.isEnabled("#fill"), "the hole is still there");

    // The last result.
    await help.parameters(page, help.QUICK);
    await page.click("#fill");
    await help.shown(page, 4);
    await help.kept(page);
    const result = await help.drawn(page);
    await page.reload();
    await help.filled(page);
    await help.becomes(page, result);
    assert.equal(await help.saved(page, "#download", join(folder, "kept.png")), "photo-filled.png");
    await shoot("reopened");
  },
};

export const submission = {
  async run({ page, folder }) {
    // The page is closed while a submission is on its way: the same job is followed afterwards, not a second one.
    const keys = [];
    await page.route("**/v1/jobs", async (route) => {
      keys.push(route.request().headers()["idempotency-key"]);
      const answer = await route.fetch();
      if (keys.length > 1) return route.fulfill({ response: answer });
      await page.reload(); // the answer is lost
    });
    await help.prepare(page, folder);
    await page.click("#fill");
    await help.filled(page);
    assert.equal(keys.length, 2);
    assert.equal(keys[0], keys[1]);
  },
};

export const deletion = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "photo.png"));
    await help.stroke(page, [150, 120], [210, 150]);
    const painted = await help.drawn(page, "#over");

    // Another photo takes nothing from the first one.
    await page.setInputFiles("#photo-file", join(folder, "small.png"));
    await help.info(page, "96 × 80");
    await help.accessible(page, "asked about the first photo");
    await help.notice(page, "photo.png stays in the list.").getByRole("button", { name: "Back to it" }).click();
    await help.becomes(page, painted, "#over");
    await page.setInputFiles("#photo-file", join(folder, "upright.jpg"));
    await help.notice(page, "photo.png stays in the list.").getByRole("button", { name: "Delete it" }).click();
    await help.notice(page, "photo.png was deleted").getByRole("button", { name: "Undo" }).click();
    await help.becomes(page, painted, "#over");
    await help.row(page, "upright.jpg").getByRole("button", { name: "Delete upright.jpg" }).click();

    await help.row(page, "photo.png").getByRole("button", { name: "Delete photo.png" }).click();
    await help.info(page, "96 × 80");
    await help.notice(page, "photo.png was deleted").waitFor();
    await shoot("deleted");
    await help.accessible(page, "deleted");
    await help.notice(page, "photo.png was deleted").getByRole("button", { name: "Undo" }).click();
    await help.becomes(page, painted, "#over");
    await help.notice(page, "was deleted").waitFor({ state: "detached" });

    // A page that is closed before the ten seconds are over: the next visit finishes it.
    await help.row(page, "photo.png").getByRole("button", { name: "Delete photo.png" }).click();
    await help.kept(page);
    await page.reload();
    await help.row(page, "small.png").waitFor();
    assert.equal(await help.row(page, "photo.png").count(), 0);
    await help.kept(page);
    const left = await page.evaluate(
      () =>
        new Promise((done) => {
          const opening = indexedDB.open("lama-refinery");
          opening.onsuccess = () => {
            const all = opening.result.transaction("pictures").objectStore("pictures").getAllKeys();
            all.onsuccess = () => done(all.result.length);
          };
        }),
    );
    assert.equal(left, 1, "only the small photo is kept");
  },
};
