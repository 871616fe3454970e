// A photo behind an address. The service fetches it, since other hosts let no page of ours read their pictures.

import { t } from "../i18n/index.js";
import { Service } from "../service/client.js";
import { messageOf } from "../service/trouble.js";
import { Opening } from "./opening.js";

/** @param {string} address @param {Opening} opening @param {Service} service @param {(message: string) => void} complain */
export async function openAddress(address, opening, service, complain) {
  try {
    const blob = await service.imageAt(address);
    await opening.open([new File([blob], nameIn(address) || `photo.${blob.type.split("/")[1]}`, { type: blob.type })]);
  } catch (error) {
    complain(t().addressFailed(messageOf(error)));
  }
}

/** @param {string} address @returns {string} The file's name; empty when the address has none. */
function nameIn(address) {
  const { protocol, pathname } = new URL(address);
  return protocol === "data:" ? "" : decodeURIComponent(pathname.split("/").at(-1) ?? "");
}
