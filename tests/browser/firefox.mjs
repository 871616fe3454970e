// Firefox, as distributions ship it, by WebDriver BiDi. Playwright has that for releases of Mozilla's alone and calls what
// is not in every one of them: commands without which the scenarios do as well are answered here.

import { writeFile } from "node:fs/promises";
import { firefox } from "playwright-core";

const OPTIONAL = ["emulation.setMediaFeaturesOverride"];

/** @param {string} path @returns {Promise<import("playwright-core").Browser>} */
export async function launchFirefox(path) {
  const browser = await firefox.launch({ channel: "moz-firefox", executablePath: path });
  const session = Object.getPrototypeOf(browser._connection.toImpl(browser)._browserSession);
  const { send } = session;
  session.send = function (method, parameters) {
    return OPTIONAL.includes(method) ? Promise.resolve({}) : send.call(this, method, parameters);
  };
  return browser;
}

/** @param {import("playwright-core").BrowserContext} context Its pages keep what they save for `savedByFirefox`. */
export async function keepDownloads(context) {
  await context.addInitScript(() => {
    const { click } = HTMLAnchorElement.prototype;
    const { createObjectURL } = URL;
    const blobs = {};
    URL.createObjectURL = (blob) => {
      const address = createObjectURL.call(URL, blob);
      blobs[address] = blob;
      return address;
    };
    HTMLAnchorElement.prototype.click = function () {
      if (!this.download) return click.call(this);
      window.saved = { name: this.download, blob: blobs[this.href] };
    };
  });
}

/** What a page saves when a button is pressed. Not every release tells Playwright of downloads.
 * @param {import("playwright-core").Page} page @param {string} button @param {string} path @returns {Promise<string>} */
export async function savedByFirefox(page, button, path) {
  await page.evaluate(() => delete window.saved);
  await page.click(button);
  await page.waitForFunction(() => window.saved);
  const [name, bytes] = await page.evaluate(async () => {
    const reader = new FileReader();
    reader.readAsDataURL(window.saved.blob);
    await new Promise((done) => (reader.onload = done));
    return [window.saved.name, reader.result.split(",")[1]];
  });
  await writeFile(path, Buffer.from(bytes, "base64"));
  return name;
}
