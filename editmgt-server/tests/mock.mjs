// A server that speaks API.md without a model (mock-model.mjs stands in for it), for the page's tests and for work on the page.
//
//     node editmgt-server/tests/mock.mjs [PORT] [--token TOKEN]
//
// Pictures are scenes of shapes (scenes.mjs); a step takes MOCK_STEP_MS (250). Nothing is kept on the disk. Beyond
// API.md there is `GET /mock/counts`: how many edits, steps and maps there were.

import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { Failure, MODEL, STEP_MS, contentWords, gridOf, holdOf, settingsOf, wordsOf } from "./mock-model.mjs";
import { decode, encode } from "./png.mjs";
import { SCENES, draw, edit as repaint } from "./scenes.mjs";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const HEADERS = {
  "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
};

const [photos, masks, edits] = [new Map(), new Map(), new Map()];
const counts = { edits: 0, steps: 0, maps: 0 };
const id = () => randomBytes(16).toString("base64url");
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const find = (map, key, what) => map.get(key) ?? (() => { throw new Failure(404, "not_found", `no such ${what}; it may have expired`); })();

/* Edits */

const pictureOf = (edit) => (edit.base ? find(edits, edit.base, "edit").result : find(photos, edit.photo, "photo").picture);

function view(edit) {
  const position = edit.status === "queued" ? [...edits.values()].filter((other) => other.status === "running").length : 0;
  const { id: key, photo, base, parent, mask, look, instruction, options, status, completed, total, report, error } = edit;
  const { width, height } = find(photos, photo, "photo").picture;
  return { id: key, photo, model: MODEL.name, width, height, base, parent, mask, look, instruction, options, status, position, completed, total,
    preview: Boolean(edit.preview), words: edit.words, report, notes: [], error };
}

function tell(edit, event, data) {
  edit.events.push([event, data]);
  for (const send of edit.listeners) send(event, data);
}

let worker = Promise.resolve();

function start(request) {
  const { photo: photoId, resume } = request;
  find(photos, photoId, "photo");
  let from = null;
  if (resume) {
    from = find(edits, resume, "edit");
    request = { photo: from.photo, base: from.base, parent: from.parent, mask: from.mask, instruction: from.instruction, options: from.options };
  }
  const { photo, base = null, instruction, options = {}, mask = null, look = false } = request;
  if (!instruction?.trim()) throw new Failure(400, "instruction", "the instruction is empty", "instruction");
  const settings = settingsOf({ ...request, options, mask });
  if ([...edits.values()].filter(({ status }) => ["queued", "running"].includes(status)).length >= MODEL.limits.queue) {
    throw new Failure(429, "queue_full", "the queue is full");
  }
  const edit = { id: id(), photo, base, parent: request.parent ?? base, mask, look, instruction, options, settings, status: "queued",
    completed: from?.completed ?? 0, total: look ? 1 : Number(settings.steps), words: [], report: null, error: null, preview: null, result: null,
    events: [], listeners: new Set(), cancelled: false };
  edits.set(edit.id, edit);
  counts.edits += 1;
  worker = worker.then(() => run(edit));
  return edit;
}

async function run(edit) {
  const { settings } = edit;
  const words = wordsOf(settings.keyword === "all" ? edit.instruction : settings.keyword.replaceAll(",", " "));
  const picture = pictureOf(edit);
  const maskPicture = edit.mask ? find(masks, edit.mask, "mask") : null;
  edit.status = "running";
  const began = Date.now();
  for (const stage of ["encode_text", "encode_image"]) {
    tell(edit, "stage", { stage, state: "started" });
    await pause(STEP_MS / 5);
    tell(edit, "stage", { stage, state: "finished" });
  }
  tell(edit, "stage", { stage: "sample", state: "started" });
  const { held, tokens_held, grid, map } = holdOf(picture, words, settings.hold, maskPicture);
  const mayChange = (x, y) => !held[Math.floor((y * grid.height) / picture.height) * grid.width + Math.floor((x * grid.width) / picture.width)];
  const all = wordsOf(edit.instruction);
  while (edit.completed < edit.total && !edit.cancelled) {
    await pause(STEP_MS);
    counts.steps += 1;
    edit.completed += 1;
    const { completed, total } = edit;
    tell(edit, "step", { completed, total, masked: total - completed, held: tokens_held, seconds_left: ((total - completed) * STEP_MS) / 1000 });
    if (!edit.look) {
      edit.preview = encode(repaint(picture, all, mayChange, Number(settings.variation), completed / total));
      tell(edit, "preview", { completed, total, image: `data:image/png;base64,${edit.preview.toString("base64")}` });
    }
  }
  edit.words = edit.look ? contentWords(edit.instruction) : settings.keyword === "all" ? [] : settings.keyword.split(",");
  if (edit.completed < edit.total) {
    edit.status = "stopped";
    return tell(edit, "stopped", view(edit));
  }
  edit.status = "done";
  if (!edit.look) {
    edit.result = repaint(picture, all, mayChange, Number(settings.variation));
    const same = (i) => [0, 1, 2].every((c) => edit.result.rgb[3 * i + c] === picture.rgb[3 * i + c]);
    const pixels = picture.width * picture.height;
    const kept = Array.from({ length: pixels }, (_, i) => same(i)).filter(Boolean).length / pixels;
    edit.report = { version: MODEL.version, device: MODEL.device, request: edit.options, settings: { instruction: edit.instruction, ...settings, steps: edit.total, seed: Number(settings.seed), variation: Number(settings.variation) },
      model_pixels: { height: picture.height, width: picture.width }, grid, scores: { min: Math.min(...map), max: 1, mean: 0.1, threshold: 0.45 },
      tokens_held, tokens_changed: 1 - tokens_held, pixels_kept: kept, notes: [], mask_notes: [], text_left_out: [], composite: { note: null },
      seconds: [["sample", (Date.now() - began) / 1000]] };
  }
  tell(edit, "done", view(edit));
}

/** The map as a picture, each token a grey. */
function overlayOf(edit) {
  const picture = pictureOf(edit);
  const { grid, map } = holdOf(picture, wordsOf(edit.instruction), edit.settings.hold, edit.mask && masks.get(edit.mask));
  const rgb = Buffer.alloc(picture.rgb.length);
  for (let i = 0; i < picture.width * picture.height; i += 1) {
    const [x, y] = [i % picture.width, Math.floor(i / picture.width)];
    rgb.fill(255 * map[Math.floor((y * grid.height) / picture.height) * grid.width + Math.floor((x * grid.width) / picture.width)], 3 * i, 3 * i + 3);
  }
  return { ...picture, rgb };
}

function maps({ edit: editId, options = {}, mask = null }) {
  const edit = find(edits, editId, "edit");
  const picture = pictureOf(edit);
  const { hold, keyword } = { ...edit.settings, ...options };
  const wanted = keyword === "all" ? [] : keyword.split(",");
  if (!wanted.every((word) => edit.words.includes(word))) throw new Failure(409, "no_maps", `no map of "${wanted.join('", "')}" is kept: a look makes it`, "keyword");
  counts.maps += 1;
  const words = wanted.length ? wanted : wordsOf(edit.instruction);
  const { grid, map, held, threshold, tokens_held } = holdOf(picture, words, hold, mask && find(masks, mask, "mask"));
  const base64 = (values) => Buffer.from(values).toString("base64");
  return { edit: editId, grid, area: { left: 0, top: 0, width: picture.width, height: picture.height },
    scores: base64(map.map((score) => Math.round(255 * score))), held: base64(held.map(Number)), hold, threshold, tokens_held,
    min: Math.min(...map), max: 1, mean: map.reduce((sum, score) => sum + score, 0) / map.length };
}

/* HTTP */

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

function readImage(bytes, code) {
  try {
    return decode(bytes);
  } catch (error) {
    throw new Failure(400, code, `not an image that can be read: ${error.message}`, code);
  }
}

const done = (edit) => (edit.status === "done" && !edit.look ? edit : (() => { throw new Failure(409, "not_done", "this edit has no result"); })());
const photoView = (photo) => ({ id: photo.id, name: photo.name, width: photo.picture.width, height: photo.picture.height, notes: [],
  edits: [...edits.values()].filter((edit) => edit.photo === photo.id).map(view) });
const json = async (request) => {
  try {
    return JSON.parse(await bodyOf(request));
  } catch {
    throw new Failure(400, "json", "the body is not JSON");
  }
};
const png = (picture, text) => ({ type: "image/png", body: encode(picture, text) });
const recordOf = (edit) => ({ version: MODEL.version, model: null, loras: [], request: { instruction: edit.instruction, ...edit.options }, settings: edit.report.settings });

const ROUTES = [
  ["GET", /^\/health$/, () => ({ status: "ok", version: MODEL.version })],
  ["GET", /^\/mock\/counts$/, () => counts],
  ["GET", /^\/api\/model$/, () => MODEL],
  ["GET", /^\/api\/examples$/, () => Object.entries(SCENES).map(([key, { instruction }]) => ({ id: key, instruction, width: 128, height: 128 }))],
  ["GET", /^\/api\/examples\/([\w-]+)$/, (_, [key]) => png(draw(find(new Map(Object.entries(SCENES)), key, "example")))],
  ["POST", /^\/api\/photos$/, async (request, _, query) => {
    const photo = { id: id(), name: query.get("name") ?? "photo.png", picture: readImage(await bodyOf(request), "photo") };
    photos.set(photo.id, photo);
    return { status: 201, json: photoView(photo) };
  }],
  ["GET", /^\/api\/photos\/([\w-]+)$/, (_, [key]) => photoView(find(photos, key, "photo"))],
  ["GET", /^\/api\/photos\/([\w-]+)\/image$/, (_, [key]) => png(find(photos, key, "photo").picture)],
  ["POST", /^\/api\/photos\/([\w-]+)\/masks$/, async (request, [key]) => {
    find(photos, key, "photo");
    const picture = readImage(await bodyOf(request), "mask");
    const white = picture.rgb.filter((level, i) => i % 3 === 0 && level >= 128).length / (picture.width * picture.height);
    if (white === 0) throw new Failure(400, "mask", "the mask has no white: nothing may change", "mask");
    const mask = { id: id(), ...picture };
    masks.set(mask.id, mask);
    return { status: 201, json: { id: mask.id, width: mask.width, height: mask.height, white, notes: [] } };
  }],
  ["GET", /^\/api\/masks\/([\w-]+)$/, (_, [key]) => png(find(masks, key, "mask"))],
  ["POST", /^\/api\/plan$/, async (request) => {
    const asked = await json(request);
    const settings = settingsOf({ instruction: "", ...asked });
    const { width, height } = find(photos, asked.photo, "photo").picture;
    const steps = Number(settings.steps);
    return { width, height, grid: gridOf({ width, height }), steps, passes: steps, seconds: (steps * STEP_MS) / 1000,
      position: [...edits.values()].filter(({ status }) => ["queued", "running"].includes(status)).length, words: contentWords(asked.instruction ?? "") };
  }],
  ["POST", /^\/api\/edits$/, async (request) => ({ status: 202, json: view(start(await json(request))) })],
  ["GET", /^\/api\/edits\/([\w-]+)$/, (_, [key]) => view(find(edits, key, "edit"))],
  ["POST", /^\/api\/edits\/([\w-]+)\/cancel$/, (_, [key]) => {
    const edit = find(edits, key, "edit");
    edit.cancelled = true;
    return { status: 202, json: view(edit) };
  }],
  ["GET", /^\/api\/edits\/([\w-]+)\/result$/, (_, [key]) => {
    const edit = done(find(edits, key, "edit"));
    return png(edit.result, JSON.stringify(recordOf(edit)));
  }],
  ["GET", /^\/api\/edits\/([\w-]+)\/preview$/, (_, [key]) => ({ type: "image/png", body: find(edits, key, "edit").preview })],
  ["GET", /^\/api\/edits\/([\w-]+)\/map$/, (_, [key]) => png(overlayOf(done(find(edits, key, "edit"))))],
  ["GET", /^\/api\/edits\/([\w-]+)\/mask$/, (_, [key]) => png(find(masks, find(edits, key, "edit").mask, "mask"))],
  ["GET", /^\/api\/edits\/([\w-]+)\/record$/, (_, [key]) => recordOf(done(find(edits, key, "edit")))],
  ["GET", /^\/api\/edits\/([\w-]+)\/report$/, (_, [key]) => done(find(edits, key, "edit")).report],
  ["GET", /^\/api\/edits\/([\w-]+)\/code$/, (_, [key]) => {
    const { instruction, options, photo } = find(edits, key, "edit");
    const name = photos.get(photo).name;
    const flags = Object.entries(options).map(([flag, value]) => ` --${flag.replaceAll("_", "-")} ${value}`).join("");
    return { command: `editmgt edit ${name} '${instruction}' -o edited.png${flags}`, rust: `EditRequest::new(${JSON.stringify(instruction)})` };
  }],
  ["POST", /^\/api\/maps$/, async (request) => maps(await json(request))],
];

function sendEvents(response, edit) {
  response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream" });
  const send = (event, data) => {
    response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    if (["done", "stopped", "failed"].includes(event)) response.end();
  };
  const ended = edit.events.find(([event]) => ["done", "stopped", "failed"].includes(event));
  if (ended) return send(...ended);
  if (edit.status === "queued") send("queued", { position: view(edit).position });
  for (const [event, data] of edit.events) send(event, data);
  edit.listeners.add(send);
  response.on("close", () => edit.listeners.delete(send));
}

async function answer(request, response, token) {
  const url = new URL(request.url, "http://localhost");
  const isApi = url.pathname.startsWith("/api/");
  if (isApi && token && request.headers.authorization !== `Bearer ${token}`) throw new Failure(401, "token", "a token is needed");
  const stream = /^\/api\/edits\/([\w-]+)\/events$/.exec(url.pathname);
  if (stream) return sendEvents(response, find(edits, stream[1], "edit"));
  for (const [method, pattern, handler] of ROUTES) {
    const match = pattern.exec(url.pathname);
    if (!match || method !== request.method) continue;
    const found = await handler(request, match.slice(1), url.searchParams);
    // An image, JSON with a status of its own, or JSON.
    const isJson = !found.type;
    const status = found.json ? found.status : 200;
    response.writeHead(status, { ...HEADERS, "Content-Type": isJson ? "application/json" : found.type });
    return response.end(isJson ? JSON.stringify(found.json ?? found) : found.body);
  }
  const name = url.pathname === "/" ? "index.html" : url.pathname.slice(1);
  if (isApi || !/^[\w-]+\.\w+$/.test(name)) throw new Failure(404, "not_found", "no such path");
  const file = await readFile(new URL(`../page/${name}`, import.meta.url)).catch(() => { throw new Failure(404, "not_found", "no such path"); });
  response.writeHead(200, { ...HEADERS, "Content-Type": TYPES[extname(name)] ?? "application/octet-stream" });
  response.end(file);
}

/** Starts a mock on a port (0: any); gives the server. */
export function mock(port = 0, token = null) {
  const server = createServer((request, response) => {
    answer(request, response, token).catch((problem) => {
      const failure = problem instanceof Failure ? problem : new Failure(500, "internal", problem.stack);
      response.writeHead(failure.status, { ...HEADERS, "Content-Type": "application/json" });
      response.end(JSON.stringify({ error: failure.error }));
    });
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

if (import.meta.url === new URL(process.argv[1], "file:").href) {
  const at = process.argv.indexOf("--token");
  const server = await mock(Number(process.argv[2]) || 8420, at > 0 ? process.argv[at + 1] : null);
  console.log(`http://127.0.0.1:${server.address().port}/`);
}
