// All options in groups, made from the table in /api/model: a new option of the library needs no change here.
// `hold` and `keyword` are set in Where, `task` in Task, `variation` by the number of variations.

import { byId, make } from "./dom.js";
import { options } from "./request.js";
import { changed, on, state } from "./state.js";

const ELSEWHERE = ["hold", "keyword", "task"];

export function startOptions() {
  byId("options-reset").addEventListener("click", () => setOptions({}));
  on("model", () => {
    const values = Object.fromEntries(options);
    showTable();
    setOptions(values);
  });
  showTable();
}

/** Makes the controls from the model's table. */
function showTable() {
  const { groups, options: table } = state.model;
  const rows = table.filter((option) => !ELSEWHERE.includes(option.kind) && option.name !== "variation");
  byId("options").replaceChildren(...groups
    .map((group) => [group, rows.filter((option) => option.group === group.id)])
    .filter(([, members]) => members.length > 0)
    .map(([group, members]) => make("fieldset", {}, make("legend", { textContent: group.label }), ...members.map(row))));
}

function row(option) {
  const id = `option-${option.name}`;
  const input = control(option, id);
  input.addEventListener("input", () => {
    if (input.value === "") options.delete(option.name);
    else options.set(option.name, input.value);
    mark();
    changed("request");
  });
  return make("div", { className: "option" },
    make("label", { for: id, textContent: option.label }), input,
    make("p", { id: `${id}-doc`, className: "hint", textContent: option.doc.replaceAll("`", "") }),
    make("p", { id: `${id}-error`, className: "error" }));
}

const FROM = { model: "the model's", official: "official", library: "default" };

function control(option, id) {
  const described = { id, "aria-describedby": `${id}-doc ${id}-error` };
  const value = option.default ?? "depends on the photo";
  const preset = value === "" ? "nothing" : value;
  const choices = { choice: option.choices, boolean: ["true", "false"] }[option.kind];
  if (choices) {
    const all = [["", `${preset} (${FROM[option.from]})`], ...choices.map((choice) => [choice, choice])];
    return make("select", described, ...all.map(([name, text]) => make("option", { value: name, textContent: text })));
  }
  if (option.kind === "integer" || option.kind === "number") {
    const [min, max, step] = [option.min, option.max, option.step].map((bound) => bound ?? "");
    return make("input", { ...described, type: "number", min, max, step: step || "any", placeholder: preset });
  }
  return make("input", { ...described, type: "text", placeholder: preset, autocomplete: "off" });
}

const inputs = () => byId("options").querySelectorAll("input, select");

/** How many differ from the defaults, beside the heading. */
function mark() {
  byId("options-count").textContent = options.size === 0 ? "" : `${options.size} set`;
  byId("options-reset").hidden = options.size === 0;
}

/** Sets these and clears the others. */
export function setOptions(values) {
  options.clear();
  for (const input of inputs()) {
    const name = input.id.slice("option-".length);
    input.value = values[name] ?? "";
    if (values[name] !== undefined) options.set(name, String(values[name]));
  }
  mark();
  changed("request");
}

/** Shows the server's sentence at the option that it is about; whether there is one. */
export function showOptionError(error) {
  for (const input of inputs()) {
    const isMeant = error?.code === "option" && input.id === `option-${error.param}`;
    input.setAttribute("aria-invalid", String(isMeant));
    byId(`${input.id}-error`).textContent = isMeant ? error.message : "";
    if (isMeant) byId("options-panel").open = true;
  }
}
