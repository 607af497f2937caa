// What to do with the photo, where the model can more than edit: fill in what is painted, or extend it by margins.

import { byId } from "./dom.js";
import { changed, on, state } from "./state.js";
import { showSize } from "./view.js";

const SIDES = ["left", "top", "right", "bottom"];
const HINTS = {
  edit: "",
  inpaint: "Paint a part of the photo and describe what should be there.",
  outpaint: "Describe the whole picture: the margins are made to fit it.",
};
const PLACEHOLDERS = { edit: "What should change?", inpaint: "What should be there?", outpaint: "What does it show?" };
/** What a model must be trained for. */
const JOBS = { edit: "edit", inpaint: "inpaint", outpaint: "inpaint" };

const radios = () => [...document.querySelectorAll('input[name="task"]')];
const can = (value) => state.model.trained_for.includes(JOBS[value]);

/** `edit`, `inpaint` or `outpaint`. */
export const task = () => radios().find((radio) => radio.checked).value;

const margin = (side) => Math.max(0, Math.round(Number(byId(`margin-${side}`).value) || 0));

/** The option `task`; none where it is an edit. */
export function taskOptions() {
  const value = task();
  if (value === "edit") return {};
  return { task: value === "inpaint" ? value : `outpaint:${SIDES.map(margin).join(",")}` };
}

/** The margins of an edit's options, in the order of SIDES; null where it has none. */
export const marginsOf = (options) => /^outpaint:(.*)$/.exec(options.task ?? "")?.[1].split(",").map(Number) ?? null;

/** Takes over what an edit was made with. */
export function restoreTask(edit) {
  const margins = marginsOf(edit.options);
  choose(margins ? "outpaint" : edit.options.task ?? "edit");
  margins?.forEach((pixels, i) => (byId(`margin-${SIDES[i]}`).value = pixels));
  show();
}

/** Shows the photo in its place in an edit: one that extends it is larger. */
export function placePhoto(edit) {
  const { width, height } = state.photo;
  const [left, top] = (edit && marginsOf(edit.options)) ?? [0, 0];
  showSize(edit?.width ?? width, edit?.height ?? height, { left, top, width, height });
}

function choose(value) {
  for (const radio of radios()) radio.checked = radio.value === value;
}

function show() {
  const value = task();
  byId("task-hint").textContent = HINTS[value];
  byId("margins").hidden = value !== "outpaint";
  byId("instruction").placeholder = PLACEHOLDERS[value];
  changed("task");
}

/** Shows the tasks that the model was trained for. */
function showTasks() {
  const able = radios().filter(({ value }) => can(value));
  for (const radio of radios()) radio.parentElement.hidden = !able.includes(radio);
  byId("task-panel").hidden = able.length < 2;
  if (!can(task()) && able.length > 0) choose(able[0].value);
  show();
}

export function startTask() {
  byId("task-panel").addEventListener("input", () => {
    show();
    changed("request");
  });
  on("model", showTasks);
  on("photo", () => {
    const { width, height } = state.photo;
    const quarter = { left: width, right: width, top: 0, bottom: 0 };
    for (const side of SIDES) byId(`margin-${side}`).value = Math.round(quarter[side] / 4);
    byId("margin-top").value = byId("margin-bottom").value = width > height ? Math.round(height / 4) : 0;
    choose(can("edit") ? "edit" : task());
    show();
  });
  showTasks();
}
