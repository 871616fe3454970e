// What the page does when something is wrong: files, jobs, the service.

import assert from "node:assert/strict";
import { join } from "node:path";
import * as help from "./helpers.mjs";

export const broken = {
  async run({ page, folder, shoot }) {
    await page.setInputFiles("#photo-file", join(folder, "broken.jpg"));
    await help.notice(page, "broken.jpg cannot be shown").waitFor();
    await help.state(page, "empty");
    await help.choose(page, join(folder, "photo.png"));
    await page.setInputFiles("#mask-file", join(folder, "upright_mask.png"));
    await help.notice(page, "Its proportions must be the photo's.").waitFor();
    await page.setInputFiles("#mask-file", join(folder, "hole.png"));
    await page.locator("#fill:enabled").waitFor();
    await help.parameters(page, "iterations=9000");
    await page.click("#fill");
    await help.notice(page, "iterations: should be a whole number from 1 to 200.").waitFor();
    await help.state(page, "edit");
    await shoot("refused");
    await help.parameters(page, help.QUICK);
    await help.notice(page, "iterations").getByRole("button", { name: "Try again" }).click();
    await help.filled(page);
    assert.equal(await help.notice(page, "iterations").count(), 0, "what was wrong is over");
  },
};

export const cancel = {
  async run({ page, folder, shoot }) {
    await help.begin(page, folder);
    // A cancel that does not arrive says so, and can be tried again. The job goes on.
    await page.route("**/cancel", (route) => route.abort());
    await page.click("#cancel");
    await help.notice(page, "The job was not canceled").waitFor();
    assert.ok(await page.isEnabled("#cancel"), "try again");
    await page.locator("#progress-text", { hasText: /pass|sharpening/i }).waitFor();
    await shoot("failed-to-cancel");
    await page.unroute("**/cancel");
    await page.click("#cancel");
    await help.state(page, "edit");
    await page.locator("#plan", { hasText: "Canceled. The hole is as you painted it." }).waitFor();
    assert.equal(await help.notice(page, "not canceled").count(), 0);
    assert.ok(await page.isEnabled("#fill"), "the hole is still there");
    await help.row(page, "photo.png").locator("text=ready to fill").waitFor();
    await shoot("canceled");
  },
};

/** SERVICE_PID is that of the process that answers. */
export const lost = {
  async run({ page, context, folder, shoot, variables }) {
    const service = Number(variables.SERVICE_PID);
    await help.begin(page, folder);
    process.kill(service, "SIGSTOP"); // it accepts connections and says nothing
    try {
      await help.notice(page, "The service does not answer.").waitFor();
      await page.locator("#progress-text", { hasText: "Waiting for the service" }).waitFor();
      await help.accessible(page, "lost");
      await shoot("lost");
    } finally {
      process.kill(service, "SIGCONT");
    }
    await help.notice(page, "The service does not answer.").waitFor({ state: "detached" });
    await page.locator("#progress-text", { hasText: /pass|sharpening/i }).waitFor();
    await page.click("#cancel");
    await help.state(page, "edit");

    // Without a network, a new job waits for one.
    await help.parameters(page, help.QUICK);
    await context.setOffline(true);
    await help.notice(page, "The service does not answer.").waitFor();
    await page.click("#fill");
    await page.locator("#progress-text", { hasText: "Waiting for the service" }).waitFor();
    await context.setOffline(false);
    await help.filled(page);
  },
};

export const key = {
  async run({ page, folder, shoot, variables }) {
    assert.ok(await page.isHidden("#key-dialog"), "nothing was asked for yet");
    await help.choose(page, join(folder, "photo.png"));
    await help.stroke(page, [150, 120], [210, 150]);
    await page.locator("#key-dialog:visible").waitFor();
    await help.accessible(page, "asking for a key");
    await shoot("asked");
    await page.fill("#key", "wrong");
    await page.keyboard.press("Enter");
    await page.locator("#key-why", { hasText: "No such API key" }).waitFor();
    await page.fill("#key", variables.API_KEY);
    await page.keyboard.press("Enter");
    await page.locator("#key-dialog").waitFor({ state: "hidden" });
    await page.locator("#plan", { hasText: /Will take|Ready to fill/ }).waitFor();
    // There is no worker.
    await page.click("#options summary");
    await page.locator("#network-why", { hasText: "No worker is running" }).waitFor();
    await page.click("#fill");
    await page.locator("#progress-text", { hasText: "Next in the queue" }).waitFor();
    await page.setInputFiles("#photo-file", join(folder, "small.png"));
    await help.info(page, "96 × 80");
    await help.stroke(page, [30, 30], [50, 50]);
    await page.click("#fill");
    await page.locator("#progress-text", { hasText: "Waiting behind 1 job" }).waitFor();
    await shoot("waiting");
    await page.click("#cancel");
    await help.state(page, "edit");
  },
};

export const options = {
  async run({ page, folder, shoot }) {
    await help.choose(page, join(folder, "photo.png"));
    await page.click("#options summary");
    const network = (value) => page.locator(`#options [name=network] option[value=${value}]`);
    await page.locator("#network-why", { hasText: "No worker has Big-LaMa" }).waitFor();
    assert.ok(await network("big-lama").isDisabled());
    assert.ok(await network("builtin").isEnabled());
    assert.match(await page.textContent("#network-command"), /^lama-refinery weights download big-lama$/);

    await page.selectOption("#options [name=preset]", "single-pass");
    await page.fill("#options [name=max_scales]", "2");
    await page.fill("#more", "context=0.8");
    await page.locator("#changed-count", { hasText: "3 changed" }).waitFor();
    const chips = () => page.locator("#changed-list li").evaluateAll((all) => all.map((one) => one.firstChild.textContent));
    assert.deepEqual(await chips(), ["preset=single-pass", "max_scales=2", "context=0.8"]);
    await help.accessible(page, "options");
    await shoot("changed");
    await page.getByRole("button", { name: "Reset context" }).click();
    assert.equal(await page.inputValue("#more"), "");
    await page.reload();
    await page.locator("#changed-count", { hasText: "2 changed" }).waitFor();
    await page.click("#options summary");
    await page.click("#reset-options");
    await page.locator("#changed-count").waitFor({ state: "hidden" });
    assert.equal(await page.inputValue("#options [name=preset]"), "default");

    // What is out of range is not sent.
    await help.stroke(page, [150, 120], [210, 150]);
    await page.fill("#options [name=iterations]", "900");
    await page.click("#fill");
    await help.state(page, "edit");
    assert.ok(await page.locator("#options [name=iterations]:invalid").isVisible());
  },
};
