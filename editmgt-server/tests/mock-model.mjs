// What the mock server has in the place of a model: a table of options, checks of a request, and score maps.

import { WORDS, scores } from "./scenes.mjs";

/** How long a step takes. */
export const STEP_MS = Number(process.env.MOCK_STEP_MS ?? 250);
const FUNCTION_WORDS = ["a", "the", "make", "turn", "remove", "into", "change"];

/** An answer of 400 and above. */
export class Failure extends Error {
  constructor(status, code, message, param = null, details = null) {
    super(message);
    const type = { 401: "authentication_error", 429: "rate_limit_error", 500: "server_error" }[status] ?? "invalid_request_error";
    Object.assign(this, { status, error: { message, type, param, code, details } });
  }
}

const option = (name, label, group, doc, expected, preset, from, kind, bounds = {}) => (
  { name, label, group, doc, expected, default: preset, from, kind, min: null, max: null, step: null, choices: null, ...bounds });

const OPTIONS = [
  option("size", "Size", "image", "Side of the square whose area the model works on, in pixels.", "1 to 16384 pixels", "128", "model", "integer", { min: 1, max: 16384, step: 1 }),
  option("negative_prompt", "Negative prompt", "sampling", "What to steer away from. Read when `guidance_scale` is above 1.", "any words", "", "model", "text"),
  option("steps", "Steps", "sampling", "Number of steps, 1 to 4096.", "1 to 4096", "4", "model", "integer", { min: 1, max: 4096, step: 1 }),
  option("guidance_scale", "Guidance", "sampling", "Classifier-free guidance, 0 to 100; 1 and below turns it off, which halves the work.", "0 to 100", "1", "model", "number", { min: 0, max: 100 }),
  option("guidance_interval", "Guided part of the run", "sampling", "The fraction of the run, 0 to 1 each, from which and until which guidance acts.", "two fractions from 0 to 1, the lesser first", "0,1", "official", "pair"),
  option("reference_strength", "Strength of the photo", "sampling", "γ, 0 to 100: how strongly the photo's tokens are attended to.", "0 to 100", "1", "model", "number", { min: 0, max: 100 }),
  option("temperature", "Temperature", "sampling", "Weight of the Gumbel noise at the first and the last step, 0 to 100 each.", "0 to 100 each", "0,0", "model", "pair"),
  option("hold", "Hold", "where", "Which tokens stay the photo's.", "off, auto, mask, a number from 0 to 1, budget:SHARE or mask+POLICY", "auto", "model", "hold"),
  option("hold_margin", "Margin", "where", "How many tokens may change around what a threshold lets change, 0 to 64.", "0 to 64 tokens", "1", "model", "integer", { min: 0, max: 64, step: 1 }),
  option("keyword", "Keyword", "where", "Whose attention says where the edit is.", "all, auto or words of the instruction", "all", "official", "keyword"),
  option("keyword_maps", "Maps of several words", "where", "How the maps of several phrases are combined: `max` or `mean`.", "max or mean", "max", "official", "choice", { choices: ["max", "mean"] }),
  option("map_filter", "Smoothing", "where", "How the score map is smoothed before `hold` reads it.", "off, adaptive, gaussian, bilateral or morphology", "off", "model", "choice", { choices: ["off", "adaptive", "gaussian", "bilateral", "morphology"] }),
  option("composite", "Pixels from the edit", "image", "Which pixels come from the edit, the others are the photo's own bytes.", "visible, held or all", "visible", "official", "choice", { choices: ["visible", "held", "all"] }),
  option("seed", "Seed", "sampling", "Same seed, same edit.", "0 to 2^64 - 1", "0", "library", "text"),
  option("variation", "Variation", "sampling", "Which of the edits of this seed it is; 0 is the first.", "0 to 2^32 - 1", "0", "library", "integer", { min: 0, step: 1 }),
  option("score_map", "Score map", "where", "Whether to compute where the edit is even if nothing is held by it.", "true or false", "false", "library", "boolean"),
  option("feather", "Feather", "image", "Over how many pixels, 0 to 4096, the edit fades.", "0 to 4096 pixels", "0", "library", "integer", { min: 0, max: 4096, step: 1 }),
];
const EXAMPLES = ["make the red car blue", "turn the yellow mushroom red", "make the blue apple green"];
export const MODEL = {
  version: "0.1.0", name: "a mock model", models: ["a mock model"], trained_for: ["edit"], device: "no device",
  known: { words: WORDS, examples: EXAMPLES },
  groups: [{ id: "sampling", label: "Sampling" }, { id: "where", label: "Where" }, { id: "image", label: "Image" }],
  options: OPTIONS,
  limits: { photo_bytes: 33554432, photo_megapixels: 64, photo_ratio: 32, instruction_characters: 2000, queue: 8, variations: 8, keep_seconds: 3600 },
};

export const wordsOf = (instruction) => instruction.toLowerCase().split(/\s+/).map((word) => word.replace(/^\W+|\W+$/g, "")).filter(Boolean);
export const contentWords = (instruction) => wordsOf(instruction).filter((word) => !FUNCTION_WORDS.includes(word));

/** Checks a request and gives the options in force. */
export function settingsOf({ instruction, options = {}, mask }) {
  const unknown = wordsOf(instruction).filter((word) => !WORDS.includes(word));
  if (unknown.length > 0) {
    throw new Failure(400, "unknown_words", `this model does not know ${unknown.map((word) => `"${word}"`).join(", ")}`, "instruction",
      { unknown, words: WORDS, examples: EXAMPLES });
  }
  const settings = Object.fromEntries(OPTIONS.map((row) => [row.name, row.default]));
  for (const [name, value] of Object.entries(options)) {
    const row = OPTIONS.find((other) => other.name === name);
    if (!row) throw new Failure(400, "option", `option: expected ${OPTIONS.map((other) => other.name).join(", ")}, got "${name}"`, "option");
    const text = String(value);
    const number = Number(text);
    const bad = (row.kind === "integer" && !Number.isInteger(number)) || (row.kind === "number" && Number.isNaN(number))
      || (row.min !== null && number < row.min) || (row.max !== null && number > row.max) || (row.choices && !row.choices.includes(text));
    if (bad) throw new Failure(400, "option", `${name}: expected ${row.expected}, got "${text}"`, name);
    settings[name] = text;
  }
  if (settings.hold.startsWith("mask") && !mask) throw new Failure(400, "option", `hold: expected a mask for this policy, got ${settings.hold} alone`, "hold");
  return settings;
}

export const gridOf = ({ width, height }) => ({ height: Math.max(1, Math.round(height / 8)), width: Math.max(1, Math.round(width / 8)) });

/** Scores and held tokens of a hold policy. */
export function holdOf(picture, words, hold, mask) {
  const grid = gridOf(picture);
  const map = scores(picture, words, grid);
  const policy = hold.replace(/^mask\+?/, "") || "off";
  let threshold = { off: null, auto: 0.45 }[policy];
  if (policy.startsWith("budget:")) {
    const most = Math.floor(Number(policy.slice(7)) * map.length);
    threshold = most ? [...map].sort((a, b) => b - a)[most - 1] : 1.1;
  } else if (threshold === undefined) {
    threshold = Number(policy);
  }
  const masked = (i) => {
    if (!mask) return false;
    const x = Math.floor((((i % grid.width) + 0.5) * mask.width) / grid.width);
    const y = Math.floor(((Math.floor(i / grid.width) + 0.5) * mask.height) / grid.height);
    return mask.rgb[3 * (y * mask.width + x)] < 128;
  };
  const held = map.map((score, i) => (threshold !== null && score < threshold) || masked(i));
  const tokens_held = held.filter(Boolean).length / held.length;
  return { grid, map, held, threshold, tokens_held };
}
