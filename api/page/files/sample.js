// A photo to try the page with, and a hole as a person might paint it.

import { randomId } from "../state/jobs.js";
import { Photo } from "../state/photo.js";
import { Workspace } from "../state/workspace.js";

const NAME = "canyon-wren.jpg"; // CC0; see demo/LICENSES.md
const [WIDTH, HEIGHT] = [1920, 1080];
const BIRD = [
  720, 270, 766, 248, 836, 250, 900, 238, 930, 250, 893, 280, 840, 318, 834, 377, 845, 492, 735, 489, 650, 478, 684, 356,
  705, 292,
]; // x, y, x, y, …

/** @param {Workspace} workspace */
export async function openSample(workspace) {
  const blob = await (await fetch(new URL("sample.jpg", import.meta.url))).blob();
  const photo = new Photo(randomId(), NAME, blob, WIDTH, HEIGHT);
  photo.push({ kind: "lasso", erase: false, points: BIRD });
  photo.holed = true;
  workspace.add(photo);
  workspace.select(photo);
}
