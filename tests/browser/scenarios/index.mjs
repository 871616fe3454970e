// All scenarios by name. Each is what a person does on the page, one thing after the other.

import * as fill from "./fill.mjs";
import * as keep from "./keep.mjs";
import * as keys from "./keys.mjs";
import * as look from "./look.mjs";
import * as masks from "./masks.mjs";
import * as photos from "./photos.mjs";
import * as service from "./service.mjs";
import * as tour from "./tour.mjs";

export const scenarios = { ...fill, ...keep, ...keys, ...look, ...masks, ...photos, ...service, ...tour };
