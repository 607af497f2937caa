// What an edit would do, asked while a person types: size, steps and time, or what is wrong with it.

import { post } from "./api.js";
import { showAnswer } from "./answer.js";
import { byId, count, debounced, duration, make } from "./dom.js";
import { showOptionError } from "./options.js";
import { asked, body, isAgain, optionsSet, variations } from "./run.js";
import { on, state } from "./state.js";
import { setFound } from "./where.js";

let turn = 0;

async function plan() {
  byId("go").textContent = isAgain() ? "Again" : "Edit";
  if (!state.photo) return;
  const mine = ++turn;
  try {
    // Without a mask yet it is planned without one.
    const found = await post("/api/plan", await body().catch(() => asked(optionsSet())));
    if (mine !== turn) return;
    showOptionError(null);
    setFound(found.words);
    byId("plan").textContent = inWords(found);
  } catch (error) {
    if (mine !== turn) return;
    showOptionError(error);
    byId("plan").replaceChildren(...(error.code === "unknown_words" ? unknown(error) : [error.message]));
  }
}

function inWords({ width, height, steps, seconds, position }) {
  const time = seconds === null ? "" : `, ${duration(seconds * variations())}`;
  const wait = position ? ` after ${count(position, "other edit")}` : "";
  return `Works at ${width} × ${height} pixels in ${count(steps, "step")}${time}${wait}.`;
}

const unknown = (error) => [
  `This model doesn’t know “${error.details.unknown[0]}”. `,
  make("button", { type: "button", className: "link", textContent: "What does it know?", onclick: () => showAnswer(error) }),
];

export function startPlan() {
  on("request", debounced(plan, 250));
  on("edit", debounced(plan, 50));
  on("photo", plan);
}
