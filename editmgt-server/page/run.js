// Running edits: start, follow the events, stop; one after the other for variations.

import { ApiError, events, get, post } from "./api.js";
import { hideAnswer, showAnswer } from "./answer.js";
import { announce, byId, count, duration, swap } from "./dom.js";
import { showOptionError } from "./options.js";
import { modelKey } from "./models.js";
import { showLayers } from "./overlay.js";
import { instruction, options } from "./request.js";
import { changed, on, state } from "./state.js";
import { placePhoto, taskOptions } from "./task.js";
import { setSplit } from "./view.js";
import { maskId, whereOptions } from "./where.js";

export const optionsSet = () => Object.fromEntries(options);
export const asked = (of) => (
  { photo: state.photo.id, base: state.base, instruction: instruction(), options: of, ...modelKey() });

/** What is asked for at the moment, as the body of POST /api/edits. */
export const body = async () => ({ ...asked({ ...optionsSet(), ...whereOptions(), ...taskOptions() }), mask: await maskId() });

/* Start and follow */

const TITLE = document.title;
let stopped = false;

/** Runs these edits one after the other until one fails or is stopped; shows each that is done. */
async function run(bodies) {
  if (state.running) return;
  stopped = false;
  hideAnswer();
  byId("message").textContent = "";
  try {
    for (const [i, one] of bodies.entries()) {
      if (stopped) break;
      const title = bodies.length > 1 ? `Variation ${i + 1} of ${bodies.length}: ` : "";
      progress({ text: `${title}starting`, share: null });
      swap(byId("go"), byId("stop"));
      if (byId("result").contains(document.activeElement)) byId("stop").focus();
      byId("progress").hidden = false;
      const edit = await follow(await post("/api/edits", one), title);
      if (edit.status === "failed") throw new ApiError(500, edit.error);
      if (!edit.look) state.edit = edit;
      changed("edit");
    }
  } catch (error) {
    // In the place of a preview, what was shown before.
    changed("edit");
    showError(error);
  }
  state.running = null;
  document.title = TITLE;
  byId("progress").hidden = true;
  swap(byId("stop"), byId("go"));
  changed("running");
}

/** Follows an edit to its end; connects again when the stream breaks. */
async function follow(edit, title) {
  note(edit);
  state.running = edit;
  changed("running");
  // Stop was pressed before the edit had an id.
  if (stopped) await cancel(edit);
  while (["queued", "running"].includes(edit.status)) {
    try {
      for await (const { event, data } of events(`/api/edits/${edit.id}/events`)) handlers[event]?.(data, title);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    edit = await get(`/api/edits/${edit.id}`);
    state.running = edit;
  }
  note(edit);
  return edit;
}

function note(edit) {
  state.edits.set(edit.id, edit);
  changed("edits");
}

const STAGES = { encode_text: "Reading the instruction", encode_image: "Reading the photo", sample: "Editing", decode: "Drawing" };

const handlers = {
  queued: ({ position }) => progress({ text: position ? `Waiting for ${count(position, "edit")}` : "Starting", share: null }),
  stage({ stage, state: of }, title) {
    if (of === "started") progress({ text: `${title}${STAGES[stage]}`, share: null });
  },
  step({ completed, total, held, seconds_left: left }, title) {
    const rest = left ? `, ${duration(left)} left` : "";
    const stays = held > 0 ? `, ${Math.round(100 * held)}% held` : "";
    progress({ text: `${title}step ${completed} of ${total}${stays}${rest}`, share: completed / total });
  },
  preview({ image }) {
    if (state.running.look) return;
    placePhoto(state.running);
    byId("after").src = image;
    byId("after").hidden = false;
    byId("sheet").classList.add("previewing");
    setSplit(0);
  },
};

let spoken = 0;

function progress({ text, share }) {
  byId("progress-text").textContent = text[0].toUpperCase() + text.slice(1);
  if (share !== null) document.title = `${Math.round(100 * share)}% · editmgt`;
  if (share === null) byId("progress-bar").removeAttribute("value");
  else byId("progress-bar").value = share;
  // Not each of 36 steps is read out.
  if (Date.now() - spoken > 3000) {
    announce(text);
    spoken = Date.now();
  }
}

function showError(error) {
  if (!(error instanceof ApiError)) console.error(error);
  showOptionError(error);
  if (error.code === "unknown_words") return showAnswer(error);
  byId("message").textContent = error.code === "queue_full" ? "Others are editing: try again in a moment." : error.message;
}

/* What starts an edit */

export const variations = () => Number(byId("variations").value);

export async function edit() {
  try {
    if (!instruction()) {
      byId("instruction").focus();
      throw new ApiError(0, { message: "Type what to change." });
    }
    const again = isAgain();
    const first = again ? Number(state.edit.options.variation ?? 0) : 0;
    const one = { ...(await body()), parent: again ? state.edit.id : state.base };
    await run(Array.from({ length: variations() }, (_, i) =>
      (i + first ? { ...one, options: { ...one.options, variation: String(first + i) } } : one)));
  } catch (error) {
    showError(error);
  }
}

/** The next variations of the edit that is shown. */
export async function moreLikeThis() {
  const { photo, base, instruction: text, options: of, mask, parent, model } = state.edit;
  const used = [...state.edits.values()].filter((other) => !other.look && other.instruction === text)
    .map((other) => Number(other.options.variation ?? 0));
  const next = Math.max(...used) + 1;
  await run(Array.from({ length: variations() }, (_, i) => (
    { photo, base, instruction: text, options: { ...of, variation: String(next + i) }, mask, parent, model })));
}

export const resume = () => run([{ photo: state.photo.id, resume: state.edit.id }]);

/** Shows where the edit would be, by the first step: the maps of all words, whatever Where says. */
function look() {
  showLayers({ scores: true, region: true });
  return run([{ ...asked(optionsSet()), look: true }]);
}

const cancel = (edit) => post(`/api/edits/${edit.id}/cancel`);

function stop() {
  stopped = true;
  byId("progress-text").textContent = "Stopping after this step";
  if (state.running) cancel(state.running).catch(showError);
}

/** The edit that is shown was made by the same instruction of the same photo. */
export const isAgain = () => state.edit !== null && state.edit.base === state.base && state.edit.instruction === instruction();

export function startRun() {
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!state.running) edit();
  });
  byId("stop").addEventListener("click", stop);
  byId("look").addEventListener("click", look);
  byId("variations").addEventListener("input", () => changed("request"));
  on("request", () => (byId("message").textContent = ""));
  on("running", () => {
    const busy = state.running !== null;
    document.body.classList.toggle("busy", busy);
    for (const id of ["more", "further", "resume", "look", "new-photo", "base-clear"]) byId(id).disabled = busy;
  });
}
