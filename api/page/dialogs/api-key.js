// The question for an API key, asked only after the service has refused a request without one.

import { byId, say } from "../dom.js";
import { t } from "../i18n/index.js";

/** @param {string} why @returns {Promise<string>} */
export function askKey(why) {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const input = byId("key", HTMLInputElement);
  say("key-why", why);
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.onclose = () => {
      const key = input.value.trim();
      if (dialog.returnValue === "use" && key) resolve(key);
      else reject(new Error(t().keyNeeded));
    };
  });
}
