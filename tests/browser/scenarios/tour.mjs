// Every state of the page, one screenshot of each, to be looked at. By hand: VIEW=390x844 SCHEME=dark LOCALE=zh-CN, and so on.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as help from "./helpers.mjs";

const { VIEW = "1440x900", SCHEME = "light", LOCALE = "en-US" } = process.env;
const [width, height] = VIEW.split("x").map(Number);
const phone = Math.min(width, height) < 500;

export const tour = {
  options: {
    viewport: { width, height },
    colorScheme: SCHEME,
    locale: LOCALE,
    ...(phone && { isMobile: true, hasTouch: true, deviceScaleFactor: 2 }),
  },
  async run({ page, context, folder, shoot }) {
    page.setDefaultTimeout(240_000);
    let number = 0;
    const see = async (name) => {
      await page.mouse.move(0, 0);
      await shoot(`${VIEW}-${SCHEME}-${LOCALE}-${String(number++).padStart(2, "0")}-${name}`);
      await help.noSidewaysScroll(page);
      await help.accessible(page, name);
    };
    const panel = async (open) => {
      if ((await page.getAttribute("#panel-toggle", "aria-expanded")) !== String(open)) await page.click(open ? "#panel-toggle" : "#panel-close");
    };
    await see("empty");
    await page.click("#sample");
    await page.locator("#fill:enabled").waitFor();
    await see("sample");
    await page.click("#clear");
    await page.locator("#fill:disabled").waitFor();
    await see("loaded");
    await help.stroke(page, [760, 300], [860, 300], [760, 380], [860, 400], [740, 460]);
    await page.locator("#grow").evaluate((grow) => ((grow.value = 24), grow.dispatchEvent(new Event("input", { bubbles: true }))));
    await page.locator("#feather").evaluate((soft) => ((soft.value = 16), soft.dispatchEvent(new Event("input", { bubbles: true }))));
    await page.locator("#fill:enabled").waitFor();
    await page.waitForTimeout(1500);
    await see("painted");
    await help.parameters(page, help.LONG);
    await page.click("#fill");
    await page.waitForTimeout(3000); // for as much of it as there is by then
    await see("running");
    await context.setOffline(true);
    await page.locator("[data-notice=lost]").waitFor();
    await see("lost");
    await context.setOffline(false);
    await page.locator("[data-notice=lost]").waitFor({ state: "detached" });
    await page.click("#cancel");
    await help.state(page, "edit");
    await see("canceled");
    await help.parameters(page, "iterations=900");
    await page.click("#fill");
    await page.locator("[data-notice=problem]").waitFor();
    await see("error");
    await panel(true);
    await see("options");
    await help.parameters(page, "preset=single-pass");
    await page.evaluate(() => document.querySelector("#options details").removeAttribute("open"));
    if (phone) await panel(false);
    await page.click("#fill");
    await help.filled(page);
    await see("result");
    await page.click("#divide");
    await see("compare");
    await page.click("#divide");
    await page.setInputFiles("#photo-file", ["photo.png", "upright.jpg", "transparent.png", "upright_mask.png"].map((name) => join(folder, name)));
    await page.locator("#photo-list li").nth(3).waitFor({ state: "attached" });
    await page.locator("[data-notice=mask]").waitFor();
    await see("notices");
    await panel(true);
    await help.row(page, "upright.jpg").locator(".open").click();
    await see("queue");
    if (phone) await panel(false);
    await page.click("#help");
    await see("keys");
  },
};

const IMAGES = fileURLToPath(new URL("../../../docs/images/", import.meta.url));

/** Takes the README's pictures of the page anew. */
export const pictures = {
  options: { viewport: { width: 1280, height: 720 } },
  async run({ page }) {
    const take = (name) => page.screenshot({ path: join(IMAGES, name), type: "jpeg", quality: 70 });
    await page.click("#sample");
    await page.locator("#grow").fill("12");
    await page.locator("#plan", { hasText: /Will take|Ready to fill/ }).waitFor();
    await take("page-painted.jpg");
    await page.click("#fill");
    await page.locator("#download:enabled").waitFor({ timeout: 900_000 });
    await page.click("#divide");
    await page.mouse.move(0, 0);
    await page.locator("#steps [data-kind=fill] img[src]").waitFor();
    await take("page-compared.jpg");
  },
};
