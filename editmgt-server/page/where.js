// Where the photo may change: automatic, by words, by brush, or by both; and the limit, λ or a budget. Moving a
// slider asks /api/maps for the region of maps that are there; the model does not run.

import { ApiError, blob, post, upload } from "./api.js";
import { isPainted, loadMask, maskImage, newMask, useBrush } from "./brush.js";
import { byId, debounced, make } from "./dom.js";
import { drawMaps, showLayers } from "./overlay.js";
import { instruction, otherOptions } from "./request.js";
import { changed, on, state } from "./state.js";
import { task } from "./task.js";

const radios = (name) => [...document.querySelectorAll(`input[name="${name}"]`)];
const chosen = (name) => radios(name).find((radio) => radio.checked).value;
const choose = (name, value) => (radios(name).find((radio) => radio.value === value).checked = true);

/** Words whose maps count. */
let words = [];
/** The content words of the instruction, as the server finds them. */
let found = [];
let uploaded = { id: null };
let maskChanged = true;

const usesWords = () => task() === "edit" && ["word", "both"].includes(chosen("where"));
/** An inpainting generates what is painted; an outpainting the margins. */
export const usesMask = () => task() === "inpaint" || (task() === "edit" && ["brush", "both"].includes(chosen("where")));

/* What goes into the request */

function limit() {
  const kind = chosen("limit");
  if (kind === "threshold") return (byId("threshold").value / 100).toString();
  if (kind === "budget") return `budget:${byId("budget").value / 100}`;
  return kind;
}

/** The options `hold` and `keyword`; none where the model's defaults are meant. */
export function whereOptions() {
  if (task() !== "edit") return {};
  const options = {};
  const hold = { auto: limit(), word: limit(), brush: "mask", both: limit() === "off" ? "mask" : `mask+${limit()}` };
  const value = hold[chosen("where")];
  if (value !== defaultOf("hold")) options.hold = value;
  if (usesWords() && words.length > 0 && value !== "mask") options.keyword = words.join(",");
  return options;
}

const defaultOf = (name) => state.model.options.find((option) => option.name === name)?.default;

/** The id of the mask, sent when it has changed; null where none is used. */
export async function maskId() {
  if (!usesMask()) return null;
  if (!isPainted()) throw new ApiError(0, { message: "Paint where the photo may change, or load a mask.", code: "mask" });
  if (maskChanged) {
    uploaded = await upload(`/api/photos/${state.photo.id}/masks`, await maskImage());
    maskChanged = false;
  }
  return uploaded.id;
}

/** Takes over what an edit was made with. */
export async function restoreWhere(edit) {
  const [, withMask, rest] = /^(mask\+?)?(.*)$/.exec(edit.options.hold ?? defaultOf("hold"));
  words = edit.options.keyword?.split(",") ?? [];
  choose("where", edit.mask ? (rest || words.length ? "both" : "brush") : words.length ? "word" : "auto");
  chooseLimit(rest || (withMask ? "off" : "auto"));
  if (edit.mask) {
    newMask(state.photo.width, state.photo.height);
    await loadMask(await blob(`/api/masks/${edit.mask}`));
    uploaded = { id: edit.mask };
    maskChanged = false;
  }
  // Until the plan of this edit brings them all.
  found = [...new Set([...found.filter((word) => edit.instruction.includes(word)), ...words])];
  show();
}

function chooseLimit(text) {
  const budget = text.startsWith("budget:");
  const number = Number(budget ? text.slice(7) : text);
  if (Number.isNaN(number)) return choose("limit", text);
  choose("limit", budget ? "budget" : "threshold");
  byId(budget ? "budget" : "threshold").value = 100 * number;
}

/* The maps that are there, and the region by them */

/** The newest edit or look that kept the maps for this instruction and these words. */
function source() {
  const wanted = usesWords() ? words : [];
  const fits = (edit) => edit.instruction === instruction() && edit.base === state.base
    && (edit.look ? edit.status === "done" : Boolean(edit.report?.scores))
    && (wanted.length ? wanted.every((word) => edit.words.includes(word)) : edit.look || !edit.options.keyword);
  const edits = [...state.edits.values()].filter(fits);
  return edits.find((edit) => edit === state.edit) ?? edits.at(-1) ?? null;
}

let asked = 0;

async function askRegion() {
  const edit = source();
  const turn = ++asked;
  const hasMaps = task() === "edit" && chosen("where") !== "brush";
  if (!edit || !hasMaps) {
    drawMaps(null);
    byId("region-text").textContent = "";
    byId("look").hidden = !hasMaps;
    return;
  }
  byId("look").hidden = true;
  try {
    const { hold = defaultOf("hold"), keyword } = whereOptions();
    const others = otherOptions(["hold_margin", "keyword_maps"]);
    const mask = usesMask() && isPainted() ? await maskId() : null;
    const options = { ...others, hold: mask || !usesMask() ? hold : limit(), ...(keyword && { keyword }) };
    const maps = await post("/api/maps", { edit: edit.id, options, mask });
    if (turn !== asked) return;
    drawMaps(maps, state.photo);
    byId("region-text").textContent = regionInWords(maps);
  } catch (error) {
    if (turn === asked) byId("region-text").textContent = error.message;
  }
}

function regionInWords({ tokens_held: held, threshold }) {
  const auto = chosen("limit") === "auto";
  if (held === 0) return `All of the photo may change${auto ? ": no part of the map stands out" : ""}.`;
  if (held === 1) return "Nothing may change.";
  const cut = auto && threshold !== null ? `, cut at λ ${threshold.toFixed(2)}` : "";
  return `${Math.round(100 * (1 - held))}% of the photo may change${cut}; the rest is held.`;
}

/* The panel */

function show() {
  const where = chosen("where");
  byId("where-panel").hidden = task() === "outpaint";
  byId("where-choice").hidden = task() !== "edit";
  byId("words-part").hidden = !usesWords();
  byId("brush-part").hidden = !usesMask();
  byId("limit-part").hidden = where === "brush" || task() !== "edit";
  useBrush(usesMask());
  const off = radios("limit").find((radio) => radio.value === "off");
  off.disabled = where === "word";
  if (off.disabled && off.checked) choose("limit", "auto");
  byId("threshold-value").textContent = (byId("threshold").value / 100).toFixed(2);
  byId("budget-value").textContent = `${byId("budget").value}%`;
  showWords();
}

function showWords() {
  byId("words").replaceChildren(...found.map((word) => make("button", {
    type: "button", className: "chip", "aria-pressed": String(words.includes(word)), textContent: word,
    onclick: () => toggleWord(word),
  })));
  byId("words-hint").textContent = found.length
    ? "Click the words that name the place."
    : "Type what to change: its words appear here.";
}

function toggleWord(word) {
  words = words.includes(word) ? words.filter((other) => other !== word) : [...words, word];
  showWords();
  [...byId("words").children].find((chip) => chip.textContent === word).focus();
  showLayers({ scores: true, region: true });
  changed("request");
  if (!source()) byId("look").click();
}

/** Takes the content words of the instruction from an answer of /api/plan. */
export function setFound(list) {
  words = words.filter((word) => instruction().includes(word));
  found = [...new Set([...list, ...words])];
  showWords();
}

/** The model's own limit. */
function resetLimit() {
  const hold = defaultOf("hold");
  chooseLimit(/^(auto|off|budget:.*|[\d.]+)$/.test(hold) ? hold : "off");
}

export function startWhere() {
  resetLimit();
  byId("where-panel").addEventListener("input", ({ target }) => {
    if (target.name === "brush" || target.id === "brush-size") return;
    // A slider chooses its own limit.
    if (target.type === "range") choose("limit", target.id);
    if (target.type === "range" || target.name === "limit") showLayers({ region: true });
    show();
    changed("request");
  });
  on("photo", () => {
    words = [];
    newMask(state.photo.width, state.photo.height);
    show();
  });
  on("task", show);
  on("model", resetLimit);
  on("mask", () => (maskChanged = true));
  on("request", debounced(askRegion, 60));
  on("edits", askRegion);
  on("edit", askRegion);
  show();
}
