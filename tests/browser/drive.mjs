// Runs one scenario in a real Chromium: node drive.mjs SCENARIO URL FOLDER. The folder has the files that the scenario
// sends, and gets those that it downloads; screenshots go to shots/. Ends with 1 and says why when something is wrong.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { scenarios } from "./scenarios.mjs";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const SHOTS = fileURLToPath(new URL("shots/", import.meta.url));

const [name, url, folder] = process.argv.slice(2);
const { run, options = {} } = scenarios[name];
const profile = await mkdtemp(join(tmpdir(), "refinery-browser-"));
const complaints = [];
let code = 0;
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM,
  args: ARGUMENTS,
  acceptDownloads: true,
  viewport: { width: 1280, height: 800 },
  reducedMotion: "reduce",
  ...options,
});
context.setDefaultTimeout(60_000);
const page = context.pages()[0] ?? (await context.newPage());
page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
page.on("console", (message) => {
  if (/Content.Security.Policy/i.test(message.text())) complaints.push(message.text());
});
page.on("request", (request) => {
  const asked = new URL(request.url());
  if (!["data:", "blob:"].includes(asked.protocol) && asked.origin !== new URL(url).origin) {
    complaints.push(`another host was asked: ${asked}`);
  }
});
const shoot = (label) => page.screenshot({ path: join(SHOTS, `${name}-${label}.png`) });
try {
  await page.goto(url);
  await run({ page, context, folder, shoot });
  if (complaints.length) throw new Error(complaints.join("\n"));
} catch (error) {
  console.error(error);
  await shoot("failed").catch(() => {});
  code = 1;
}
await context.close();
await rm(profile, { recursive: true, force: true });
process.exit(code);
