// The official Node SDK of OpenAI's API against a server with the embedded model.
//
//     NODE_FOLDER=FOLDER node openai_client.mjs URL SCENE.png

import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const folder = createRequire(join(resolve(process.env.NODE_FOLDER ?? "."), "/"));
const { OpenAI, toFile } = folder("openai");
const { version } = JSON.parse(readFileSync(join(folder.resolve("openai"), "../package.json")));
const [url, scene] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url.replace(/\/$/, "")}/v1`, apiKey: "any text", maxRetries: 0 });
const prompt = "make the red car blue";
let checks = 0;
const check = (condition, message) => { checks += 1; assert.ok(condition, message); };
const equal = (got, expected) => { checks += 1; assert.deepEqual(got, expected); };
const bytes = (image) => Buffer.from(image.b64_json, "base64");
const sizeOf = (png) => [png.readUInt32BE(16), png.readUInt32BE(20)];
const edit = (options = {}) => client.images.edit({ image: createReadStream(scene), prompt, ...options });

async function refused(status, code, param, call) {
  checks += 1;
  await assert.rejects(call, (error) => {
    assert.deepEqual([error.status, error.code, error.param], [status, code, param], error.message);
    return true;
  });
}

const names = [];
for await (const model of client.models.list()) names.push(model.id);
equal(names, ["embedded"]);
await refused(404, "model_not_found", "model", () => client.models.retrieve("gpt-image-1"));

// Fields that are not OpenAI's stand beside its own.
const first = await edit({ model: "embedded", user: "someone", seed: 7, hold: "auto" });
equal(sizeOf(bytes(first.data[0])), [128, 128]);
equal(first.data[0].editmgt.seed, 7);
const again = await edit({ seed: 7, hold: "auto" });
equal(bytes(again.data[0]).equals(bytes(first.data[0])), true);

const many = await edit({ n: 2, size: "160x160", output_format: "webp" });
equal(many.data.map((image) => bytes(image).toString("latin1", 8, 12)), ["WEBP", "WEBP"]);
const listed = await edit({ image: [await toFile(readFileSync(scene), "scene.png", { type: "image/png" })], response_format: "url" });
equal(sizeOf(Buffer.from(await (await fetch(listed.data[0].url)).arrayBuffer())), [128, 128]);

const outpainted = await edit({ prompt: "a green cat", task: "outpaint:0,16,0,0", steps: 2 });
equal(outpainted.size, "128x144");

const types = [];
for await (const event of await edit({ stream: true, partial_images: 2, steps: 3 })) {
  types.push(event.type);
  equal(sizeOf(bytes(event)), [128, 128]);
}
check(types.includes("image_edit.partial_image") && types.at(-1) === "image_edit.completed", types.join());

// A stream that is left stops its edit; the next request works.
for await (const event of await edit({ stream: true, partial_images: 1, steps: 200 })) {
  check(event.type === "image_edit.partial_image", event.type);
  break;
}
check((await edit()).data[0].b64_json, "the next edit");

await refused(400, "unknown_words", "instruction", () => edit({ prompt: "paint a zebra" }));
await refused(400, "option", "n", () => edit({ n: 99 }));
await refused(400, "option", "size", () => edit({ size: "1536x1024" }));
await refused(400, "unknown_key", "colour", () => edit({ colour: "red" }));
await refused(400, "photo", "photo", async () => edit({ image: await toFile(Buffer.from("none"), "x.png", { type: "image/png" }) }));

await refused(400, "not_trained", "model", () => client.images.generate({ prompt: "a red car" }));
const made = await client.images.generate({ prompt: "a red car", n: 2, size: "80x64", anyway: true, steps: 2 });
equal(made.data.map((image) => sizeOf(bytes(image))), [[80, 64], [80, 64]]);
const generated = [];
for await (const event of await client.images.generate({ prompt: "a red car", stream: true, partial_images: 1, anyway: true, steps: 2 })) generated.push(event.type);
equal(generated, ["image_generation.partial_image", "image_generation.completed"]);

console.log(`openai ${version} for Node: ${checks} checks passed`);
