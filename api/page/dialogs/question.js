// A question with a few answers.

import { byId, make, say } from "../dom.js";

/** @param {string} question @param {string[]} answers @returns {Promise<number>} Which one; the last when none was given. */
export function ask(question, answers) {
  const dialog = byId("question", HTMLDialogElement);
  say("question-text", question);
  const buttons = answers.map((answer, i) => make("button", { value: String(i), ...(i === 0 && { class: "main" }) }, answer));
  byId("question-answers", HTMLElement).replaceChildren(...buttons);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "" ? answers.length - 1 : Number(dialog.returnValue));
  });
}
