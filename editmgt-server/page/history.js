// The edits of this photo: variations of the one that is shown as a strip, all of them as a tree to go back in.

import { image } from "./api.js";
import { byId, make } from "./dom.js";
import { useModel } from "./models.js";
import { setOptions } from "./options.js";
import { pictureOf } from "./result.js";
import { changed, on, state } from "./state.js";
import { restoreTask } from "./task.js";
import { restoreWhere } from "./where.js";

const shown = () => [...state.edits.values()].filter(({ look, status }) => !look && ["done", "stopped"].includes(status));

/** Same in all but the variation. */
function isVariation(a, b) {
  const rest = ({ instruction, base, mask, options: { variation, ...others } }) =>
    JSON.stringify([instruction, base, mask, Object.entries(others).sort()]);
  return rest(a) === rest(b);
}

function thumbnail(edit) {
  const picture = make("img", { alt: "", className: "thumbnail", loading: "lazy" });
  const path = edit ? pictureOf(edit) : `/api/photos/${state.photo.id}/image`;
  if (!edit || edit.status === "done" || edit.preview) image(path).then((url) => (picture.src = url), () => {});
  return picture;
}

/** Goes back to an edit: its picture, and what it was made with. */
async function open(edit) {
  state.edit = edit;
  state.base = edit?.base ?? null;
  if (edit) {
    await useModel(edit.model);
    const { hold, keyword, task, variation, ...others } = edit.options;
    setOptions(others);
    restoreTask(edit);
    byId("instruction").value = edit.instruction;
    await restoreWhere(edit);
  }
  changed("edit");
  changed("request");
}

function opener(edit, text, name) {
  const button = make("button", { type: "button", className: "opener", onclick: () => !state.running && open(edit), title: text },
    thumbnail(edit), make("span", { className: "opener-text", textContent: text }));
  if (name) button.setAttribute("aria-label", name);
  if ((state.edit?.id ?? null) === (edit?.id ?? null)) button.setAttribute("aria-current", "true");
  return button;
}

function label(edit) {
  const variation = Number(edit.options.variation ?? 0);
  return edit.instruction + (variation ? ` · ${variation + 1}` : "") + (edit.status === "stopped" ? " · stopped" : "");
}

function drawStrip() {
  const all = state.edit ? shown().filter((edit) => isVariation(edit, state.edit)) : [];
  byId("strip-part").hidden = all.length < 2;
  byId("strip").replaceChildren(...all.map((edit, i) =>
    make("li", {}, opener(edit, String(i + 1), `Variation ${i + 1} of ${all.length}`))));
}

function drawTree() {
  const edits = shown();
  const known = new Set(edits.map((edit) => edit.id));
  const branch = (parent) => {
    const children = edits.filter((edit) => (known.has(edit.parent) ? edit.parent : null) === parent);
    if (children.length === 0) return null;
    return make("ul", {}, ...children.map((edit) => make("li", {}, opener(edit, label(edit)), branch(edit.id))));
  };
  byId("history-part").hidden = edits.length === 0;
  byId("history").replaceChildren(make("li", {}, opener(null, "The photo"), branch(null)));
}

/** Draws both again, with the focus where it was. */
function draw() {
  const focused = document.activeElement?.closest?.("#strip, #history");
  const place = focused ? [...focused.querySelectorAll("button")].indexOf(document.activeElement) : -1;
  drawStrip();
  drawTree();
  if (place >= 0) focused.querySelectorAll("button")[place]?.focus();
}

export function startHistory() {
  for (const name of ["edit", "edits", "photo"]) on(name, draw);
}

