// Opens IOPaint's own page, of the folder PAGE, as if URL served it; draws a stroke over the photo, and saves what the
// page sent and its result into the folder OUT. Of all requests, those for the page's files are answered from PAGE, the others by URL.
import { createRequire } from "node:module";
import { existsSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

const { chromium } = createRequire(new URL("../../../browser/package.json", import.meta.url))("playwright-core");
const { URL: address, KEY, PAGE, PHOTO, OUT, CHROMIUM } = process.env;

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const context = await browser.newContext({ extraHTTPHeaders: { Authorization: `Bearer ${KEY}` } });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  await page.route("**/*", (route) => {
    const path = new URL(route.request().url()).pathname;
    const file = join(PAGE, path === "/" ? "index.html" : path);
    return existsSync(file) && statSync(file).isFile() ? route.fulfill({ path: file }) : route.continue();
  });
  await page.goto(address);
  await page.locator("input[type=file]").first().setInputFiles(PHOTO);
  const canvas = page.locator("canvas").last();
  await canvas.hover(); // once the photo has slid into its place
  const filled = page.waitForResponse((response) => response.url().endsWith("/api/v1/inpaint"));
  const box = await canvas.boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  await page.mouse.move(x - box.width / 8, y);
  await page.mouse.down();
  await page.mouse.move(x + box.width / 8, y, { steps: 8 });
  await page.mouse.up();
  const answer = await filled;
  await writeFile(join(OUT, "sent.json"), answer.request().postData());
  if (!answer.ok()) throw new Error(await answer.text());
  const download = page.waitForEvent("download");
  await page.locator("button").last().click(); // under the photo: undo, redo, compare, download, once there is a result
  await (await download).saveAs(join(OUT, "result.png"));
} finally {
  await browser.close();
}
