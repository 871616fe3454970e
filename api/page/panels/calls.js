// The calls that do what the page has just done, for programs.

import { t } from "../i18n/index.js";

/**
 * @typedef {{origin: string, photo: string, fields: Record<string, string>, keyed: boolean, out: string}} Done
 * origin: of the service. photo: the file's name. fields: as they were sent. keyed: with an API key. out: the result's.
 */

const MASK = "mask.png";

/** @param {Done} done @returns {string} */
export function curl({ origin, photo, fields, keyed, out }) {
  const key = keyed ? ' -H "Authorization: Bearer $API_KEY"' : "";
  const form = [
    ["image", `@${curlPath(photo)}`],
    ["mask", `@${MASK}`],
    ...Object.entries(fields).map(([name, value]) => [name, value]),
  ].map(([name, value]) => `-F ${shell(`${name}=${value}`)}`);
  return [
    `curl -sS -f -H 'Prefer: wait=600' -H 'Accept: image/*'${key} \\`,
    `  ${form.join(" ")} \\`,
    `  -o ${shell(out)} ${origin}/v1/jobs`,
    `# ${t().callTakesLong}`,
    `# curl -sS -o ${shell(out)}${key} ${origin}/v1/jobs/ID/result`,
  ].join("\n");
}

/** @param {Done} done @returns {string} */
export function python({ origin, photo, fields, keyed, out }) {
  const target = keyed ? `${quoted(origin)}, api_key=os.environ["API_KEY"]` : quoted(origin);
  const parameters = Object.entries(fields).map(([name, value]) => `, ${name}=${literal(value)}`);
  return [
    ...(keyed ? ["import os"] : []),
    "from pathlib import Path",
    "",
    "from lama_refinery_client import Client",
    "",
    `with Client(${target}) as client:`,
    `    result = client.inpaint(${quoted(photo)}, ${quoted(MASK)}${parameters.join("")})`,
    `    Path(${quoted(out)}).write_bytes(result)`,
  ].join("\n");
}

/** @param {Done} done @returns {string} */
export function javascript({ origin, photo, fields, keyed, out }) {
  const headers = keyed ? "{ Authorization: `Bearer ${process.env.API_KEY}` }" : "{}";
  return [
    'import { openAsBlob } from "node:fs";',
    'import { writeFile } from "node:fs/promises";',
    "",
    `const service = ${quoted(origin)}, headers = ${headers};`,
    "const form = new FormData();",
    `form.set("image", await openAsBlob(${quoted(photo)}), ${quoted(photo)});`,
    `form.set("mask", await openAsBlob(${quoted(MASK)}), ${quoted(MASK)});`,
    ...Object.entries(fields).map(([name, value]) => `form.set(${quoted(name)}, ${quoted(value)});`),
    "",
    'let job = await (await fetch(`${service}/v1/jobs`, { method: "POST", body: form, headers })).json();',
    'if (job.detail) throw new Error(job.detail);',
    'while (["queued", "running"].includes(job.status)) {',
    "  await new Promise((resolve) => setTimeout(resolve, 1000));",
    "  job = await (await fetch(`${service}/v1/jobs/${job.id}`, { headers })).json();",
    "}",
    'if (job.status !== "succeeded") throw new Error(job.error?.detail ?? job.status);',
    "const result = await fetch(`${service}${job.links.result}`, { headers });",
    `await writeFile(${quoted(out)}, Buffer.from(await result.arrayBuffer()));`,
  ].join("\n");
}

/** @param {string} text @returns {string} One word of a POSIX shell. */
function shell(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** curl takes commas and semicolons of a file's name for its own. @param {string} name @returns {string} */
function curlPath(name) {
  return /[,;"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name;
}

/** @param {string} text @returns {string} A string of Python and of JavaScript. */
function quoted(text) {
  return JSON.stringify(text);
}

/** @param {string} value @returns {string} A literal of Python. */
function literal(value) {
  if (value === "true" || value === "false") return value === "true" ? "True" : "False";
  return /^-?\d+(\.\d+)?$/.test(value) ? value : quoted(value);
}
