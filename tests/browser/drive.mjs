// Runs scenarios in a real browser. By hand: node drive.mjs SCENARIO URL FOLDER. The folder has the files that the
// scenario sends, and gets those that it downloads; screenshots go to shots/. FIREFOX=PATH runs it in Firefox. Ends with 1
// and says why when something is wrong. Without arguments, it runs what it is told on its input, one JSON object per line,
// and answers each with one: so all tests share a browser, each with a context of its own.

import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { keepDownloads, launchFirefox } from "./firefox.mjs";
import { scenarios } from "./scenarios/index.mjs";

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

const [scenario, url, folder] = process.argv.slice(2);
const byHand = scenario !== undefined;
const { CHROMIUM, FIREFOX } = process.env;
const browser = FIREFOX
  ? await launchFirefox(FIREFOX)
  : await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });

/** @returns {Promise<string>} What is wrong; empty when nothing is. */
async function play({ scenario, url, folder, variables }) {
  const { run, options = {} } = scenarios[scenario];
  const complaints = [];
  const context = await browser.newContext({
    acceptDownloads: true,
    viewport: { width: 1280, height: 800 },
    reducedMotion: "reduce",
    locale: "en-US",
    ...options,
  });
  context.setDefaultTimeout(60_000);
  if (FIREFOX) await keepDownloads(context);
  const page = await context.newPage();
  page.on("pageerror", (error) => {
    // Firefox blames the page for the styles of Playwright's screenshots.
    if (!FIREFOX || !/style-src-elem/.test(error.message)) complaints.push(`uncaught: ${error.message}`);
  });
  page.on("console", (message) => {
    if (!FIREFOX && /Content.Security.Policy/i.test(message.text())) complaints.push(message.text());
  });
  page.on("request", (request) => {
    const asked = new URL(request.url());
    if (!["data:", "blob:"].includes(asked.protocol) && asked.origin !== new URL(url).origin) {
      complaints.push(`another host was asked: ${asked}`);
    }
  });
  const shot = (label) => page.screenshot({ path: join(SHOTS, `${scenario}-${label}.png`) });
  const shoot = async (label) => byHand && shot(label); // nobody looks at those of a test that passes
  try {
    await page.goto(url);
    await page.locator("body[data-ready]").waitFor();
    await run({ page, context, folder, shoot, variables });
    return complaints.join("\n");
  } catch (error) {
    await shot("failed").catch(() => {});
    return [error.stack, ...complaints].join("\n");
  } finally {
    await context.close();
  }
}

if (byHand) {
  const wrong = await play({ scenario, url, folder, variables: process.env });
  if (wrong) console.error(wrong);
  await browser.close();
  process.exit(wrong ? 1 : 0);
}
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ wrong: await play(JSON.parse(line)) }));
}
await browser.close();
