// Fills the hole of PHOTO with Replicate's client, polls another prediction to its end, and prints the first result in
// base64. Replicate's address is in BASE_URL.
import { readFile } from "node:fs/promises";
import Replicate from "replicate";

const replicate = new Replicate({ auth: process.env.KEY, baseUrl: process.env.BASE_URL });
const input = { image: await readFile(process.env.PHOTO), mask: await readFile(process.env.MASK), preset: "single-pass" };
const output = await replicate.run("any/model", { input });
const data = Buffer.from(await (await output.blob()).arrayBuffer());

const made = await replicate.predictions.create({ version: "any", input });
const ended = await replicate.wait(made, { interval: 100 });
if (ended.status !== "succeeded") throw new Error(JSON.stringify(ended));
const { results } = await replicate.predictions.list();
if (results[0].id !== made.id) throw new Error("the newest prediction is not the first of the list");
console.log(data.toString("base64"));
