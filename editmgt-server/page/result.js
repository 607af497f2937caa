// The edit that is shown: its picture beside the one before, its numbers in words, and what can be done with it.

import { blob, get, image } from "./api.js";
import { announce, byId, count, duration, make } from "./dom.js";
import { showLayers } from "./overlay.js";
import { openResult } from "./photo.js";
import { changed, on, state } from "./state.js";
import { copyText, saveBlob } from "./save.js";
import { moreLikeThis, resume } from "./run.js";
import { marginsOf, placePhoto } from "./task.js";
import { reveal, setSplit } from "./view.js";

const beforeOf = (base) => (base ? `/api/edits/${base}/result` : `/api/photos/${state.photo.id}/image`);
export const pictureOf = (edit) => `/api/edits/${edit.id}/${edit.status === "done" ? "result" : "preview"}`;

/** Edits whose before and after were wiped once. */
const revealed = new Set();

async function show() {
  const edit = state.edit;
  byId("result").hidden = edit === null;
  byId("base-note").hidden = state.base === null;
  if (edit) describe(edit);
  const base = edit ? edit.base : state.base;
  const hasPicture = edit !== null && (edit.status === "done" || edit.preview);
  const [before, after] = await Promise.all([image(beforeOf(base)), hasPicture ? image(pictureOf(edit)) : null]);
  if (edit !== state.edit) return;
  placePhoto(edit);
  byId("before").src = before;
  byId("before").alt = base ? "The photo before this edit, itself an edit" : "The photo before the edit";
  byId("after").hidden = byId("split").hidden = byId("stage-labels").hidden = after === null;
  byId("sheet").classList.remove("previewing");
  if (!after) return setSplit(0);
  byId("after").src = after;
  byId("after").alt = `After: ${edit.instruction}`;
  if (edit.status === "done" && !revealed.has(edit.id)) {
    revealed.add(edit.id);
    await byId("after").decode().catch(() => {});
    reveal();
  }
}

/* Numbers in words */

function describe(edit) {
  const { report } = edit;
  byId("result-title").textContent = edit.status === "done" ? inWords(report) : `Stopped after ${edit.completed} of ${count(edit.total, "step")}.`;
  byId("facts").replaceChildren(...(report ? facts(edit) : ["What you chose is kept: continue, or change something and edit again."])
    .map((text) => make("li", { textContent: text })));
  for (const button of document.querySelectorAll("[data-needs=done]")) button.hidden = edit.status !== "done";
  byId("resume").hidden = edit.status !== "stopped";
  byId("save-mask").hidden = edit.mask === null;
  byId("code").hidden = true;
  announce(byId("result-title").textContent);
}

/** "93%", and never 100% or 0% for what is only nearly so. */
function percent(share) {
  const rounded = Math.round(100 * share);
  if (rounded === 100 && share < 1) return `${Math.floor(1000 * share) / 10}%`;
  return rounded === 0 && share > 0 ? "under 1%" : `${rounded}%`;
}

const inWords = ({ pixels_kept: kept }) => {
  if (kept === 1) return "Nothing changed: every pixel is your photo’s own.";
  return kept === 0 ? "Every pixel is the model’s." : `${percent(kept)} of the pixels are your photo’s own bytes.`;
};

function facts({ report, notes }) {
  const { tokens_held, tokens_changed, seconds, settings, model_pixels: pixels, grid } = report;
  const total = seconds.reduce((sum, [, stage]) => sum + stage, 0);
  const held = tokens_held > 0 ? `${percent(tokens_held)} were held` : "none were held";
  return [
    `The model changed ${percent(tokens_changed)} of its ${grid.width} × ${grid.height} tokens; ${held}.`,
    `It took ${duration(total)}: ${count(settings.steps, "step")} at ${pixels.width} × ${pixels.height} pixels, ` +
      `seed ${settings.seed}, variation ${settings.variation + 1}.`,
    ...notes,
  ];
}

/* What can be done with it */

const stem = () => (state.photo.name || "photo").replace(/\.[^.]*$/, "");

/** Downloads: the button, its end point, the file's name. The names are those in the code to copy. */
const FILES = {
  "save-png": ["result", () => `${stem()}-edited.png`],
  "save-record": ["record", () => `${stem()}-record.json`],
  "save-mask": ["mask", () => "mask.png"],
  "save-map": ["map", () => `${stem()}-map.png`],
  "save-report": ["report", () => `${stem()}-report.json`],
};

export function startResult() {
  for (const [id, [path, name]] of Object.entries(FILES)) {
    byId(id).addEventListener("click", async () => saveBlob(await blob(`/api/edits/${state.edit.id}/${path}`), name()));
  }
  for (const [id, key, what] of [["copy-command", "command", "Command"], ["copy-rust", "rust", "Rust"]]) {
    byId(id).addEventListener("click", async () => copyText((await get(`/api/edits/${state.edit.id}/code`))[key], what));
  }
  byId("more").addEventListener("click", moreLikeThis);
  byId("resume").addEventListener("click", resume);
  byId("further").addEventListener("click", async () => {
    // Masks and maps are of the photo's size: one that was extended is a new photo.
    if (marginsOf(state.edit.options)) return openResult(state.edit, `${stem()}-edited.png`);
    setBase(state.edit.id);
    byId("instruction").select();
    byId("instruction").focus();
  });
  byId("base-clear").addEventListener("click", () => setBase(null));
  on("edit", show);
  on("photo", show);
}

/** Edits this edit's result from now on; null: the photo. */
function setBase(id) {
  state.base = id;
  state.edit = null;
  showLayers({ scores: false, region: false });
  changed("edit");
  changed("request");
}
