// A photo behind an address. The service fetches it, since other hosts let no page of ours read their pictures.

import { t } from "../i18n/index.js";
import { Service } from "../service/client.js";
import { messageOf } from "../service/trouble.js";
import { Opening } from "./opening.js";

/** @param {string} address @param {Opening} opening @param {Service} service @param {(message: string) => void} complain */
export async function openAddress(address, opening, service, complain) {
  try {
    const blob = await service.imageAt(address);
    const name = decodeURIComponent(new URL(address).pathname.split("/").at(-1) ?? "");
    await opening.open([new File([blob], name || "photo", { type: blob.type })]);
  } catch (error) {
    complain(t().addressFailed(messageOf(error)));
  }
}
