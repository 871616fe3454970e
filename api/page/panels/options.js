// The options of a job: which differ from the preset, which networks there are, and what is sent.

import { all, button, byId, make, onClick, say, show } from "../dom.js";
import { t } from "../i18n/index.js";
import { Service } from "../service/client.js";
import { prefer, preferences } from "../state/preferences.js";
import { Workspace } from "../state/workspace.js";

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Field */

const ASK_MILLISECONDS = 15_000; // a network may come or go with a worker
const DEFAULTS = { preset: "default", network: "auto", format: "same" };
const COMMANDS = /** @type {Record<string, string>} */ ({ "big-lama": "lama-refinery weights download big-lama", builtin: "python -m worker" });

export class Options {
  /** @param {Workspace} workspace @param {Service} service @param {(grow: number, feather: number) => void} onEdge */
  constructor(workspace, service, onEdge) {
    this.workspace = workspace;
    this.service = service;
    this.onEdge = onEdge;
    this.form = byId("options", HTMLFormElement);
    /** Sliders for what the service does to the hole's edge, by the parameter of each; 0 does nothing. */
    this.edges = { mask_dilate_pixels: byId("grow", HTMLInputElement), feather_pixels: byId("feather", HTMLInputElement) };
    /** @type {Set<string> | null} Values of the parameter that lead to a network; null before the service has told. */
    this.networks = null;
    for (const field of this.#fields()) field.value = preferences().options[field.name] ?? this.#standard(field);
    for (const [name, slider] of Object.entries(this.edges)) slider.value = preferences().options[name] ?? "0";
    for (const element of [this.form, ...Object.values(this.edges)]) element.addEventListener("input", () => this.#changed());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    onClick("reset-options", () => this.#reset(null));
    workspace.onChange(() => this.#draw());
    this.#tellEdge();
    setInterval(() => document.visibilityState === "visible" && void this.askNetworks(), ASK_MILLISECONDS);
  }

  /** What was chosen and differs from what the service does anyway. @returns {Record<string, string>} */
  get chosen() {
    /** @type {Record<string, string>} */
    const chosen = {};
    for (const field of this.#fields()) {
      if (field.name !== "more" && field.value !== this.#standard(field)) chosen[field.name] = field.value;
    }
    for (const [name, { value }] of Object.entries(this.edges)) if (value !== "0") chosen[name] = value;
    for (const line of byId("more", HTMLTextAreaElement).value.split("\n")) {
      const [name, ...value] = line.split("=");
      if (name?.trim()) chosen[name.trim()] = value.join("=").trim();
    }
    return chosen;
  }

  /** What is sent with a job; null when a field has no value that it could have. */
  get fields() {
    return this.form.checkValidity() ? this.chosen : null;
  }

  /** Show what is wrong with a field. */
  report() {
    this.form.querySelector("details")?.setAttribute("open", "");
    this.form.reportValidity();
  }

  async askNetworks() {
    try {
      const found = await this.service.networks();
      this.networks = found && new Set(found.flatMap(({ parameter }) => parameter));
    } catch {
      return; // the next question may be answered
    }
    this.#draw();
  }

  /** @returns {Field[]} */
  #fields() {
    return /** @type {Field[]} */ ([...this.form.elements].filter((element) => element.hasAttribute("name")));
  }

  /** @param {Field} field */
  #standard(field) {
    return DEFAULTS[/** @type {keyof typeof DEFAULTS} */ (field.name)] ?? "";
  }

  #changed() {
    const kept = this.#fields().map(({ name, value }) => [name, value]);
    const edges = Object.entries(this.edges).map(([name, { value }]) => [name, value]);
    prefer({ options: Object.fromEntries([...kept, ...edges]) });
    this.#tellEdge();
    this.workspace.changed();
  }

  #tellEdge() {
    this.onEdge(Number(this.edges.mask_dilate_pixels.value), Number(this.edges.feather_pixels.value));
  }

  /** @param {string | null} name Of one option; all of them without it. */
  #reset(name) {
    for (const field of this.#fields()) {
      if (name === null || field.name === name) field.value = this.#standard(field);
    }
    for (const [edge, slider] of Object.entries(this.edges)) if (name === null || name === edge) slider.value = "0";
    const more = byId("more", HTMLTextAreaElement);
    more.value = more.value.split("\n").filter((line) => line.split("=")[0]?.trim() !== name).join("\n");
    this.#changed();
  }

  #draw() {
    const chosen = Object.entries(this.chosen);
    for (const slider of Object.values(this.edges)) {
      const told = t().pixels(Number(slider.value));
      say(`${slider.id}-value`, told);
      slider.setAttribute("aria-valuetext", told);
    }
    show("changed", chosen.length > 0);
    show("changed-count", chosen.length > 0);
    say("changed-count", t().changedCount(chosen.length));
    const names = chosen.map(([name]) => name);
    for (const label of all("[data-field]")) label.classList.toggle("differs", names.includes(label.dataset["field"] ?? ""));
    const list = byId("changed-list", HTMLElement);
    const told = chosen.map(([name, value]) => `${name}=${value}`);
    if (told.join("\n") !== list.dataset["told"]) {
      list.dataset["told"] = told.join("\n");
      const chips = chosen.map(([name], i) =>
        make("li", {}, told[i] ?? "", button("×", () => this.#reset(name), { "aria-label": t().resetOne(name) })),
      );
      list.replaceChildren(...chips);
    }
    this.#drawNetworks();
  }

  #drawNetworks() {
    const select = /** @type {HTMLSelectElement} */ (this.form.elements.namedItem("network"));
    const { networks } = this;
    const missing = [...select.options].filter(({ value }) => networks && !networks.has(value));
    for (const option of select.options) option.disabled = option.value !== "auto" && missing.includes(option);
    if (missing.some((option) => option.selected && option.disabled)) this.#reset("network");
    const [first] = missing.filter(({ value }) => value !== "auto");
    show("network-missing", first !== undefined);
    if (!first) return;
    say("network-why", networks?.size ? t().networkMissing(first.text) : t().noWorker);
    say("network-command", networks?.size ? (COMMANDS[first.value] ?? "") : "python -m worker");
  }
}
