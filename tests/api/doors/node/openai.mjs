// Fills the hole of PHOTO with OpenAI's client: with a mask. Prints the result in base64.
import { createReadStream } from "node:fs";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY });
const png = { type: "image/png" };
const edited = await client.images.edit({
  model: "gpt-image-1",
  image: await toFile(createReadStream(process.env.PHOTO), "photo.png", png),
  mask: await toFile(createReadStream(process.env.MASK), "mask.png", png),
  prompt: "an empty beach",
});
console.log(edited.data[0].b64_json);
const [model] = (await client.models.list()).data;
const error = await client.images
  .edit({ model: model.id, image: createReadStream(process.env.PHOTO), prompt: "two", n: 2 })
  .catch((error) => error);
if (!(error instanceof OpenAI.BadRequestError) || error.param !== "n") throw error;
