// The answer to words that the model doesn't know: what it does know, as chips to click.

import { byId, count, make } from "./dom.js";
import { changed, state } from "./state.js";

const field = byId("instruction");
const quoted = (words) => words.map((word) => `“${word}”`).join(", ");

export function setInstruction(text) {
  field.value = text;
  field.focus();
  changed("request");
}

const chip = (text, onclick) => make("li", {}, make("button", { type: "button", className: "chip", textContent: text, onclick }));

/** Shows the answer to an error `unknown_words`. */
export function showAnswer({ details: { unknown, words, examples } }) {
  byId("answer-title").textContent = `This model doesn’t know ${quoted(unknown)}`;
  byId("answer-examples").replaceChildren(...examples.map((text) => chip(text, () => use(text))));
  byId("answer-words-title").textContent =
    `Or put a word in the place of ${quoted([unknown[0]])}: it knows ${count(words.length, "word")}`;
  byId("answer-words").replaceChildren(...words.map((word) => chip(word, () => use(replaced(unknown[0], word)))));
  byId("answer").hidden = false;
  byId("answer-title").focus({ preventScroll: true });
  byId("answer").scrollIntoView({ block: "nearest" });
}

const bare = (word) => word.toLowerCase().replace(/^\W+|\W+$/g, "");

/** The instruction with a word in the place of another, whatever its case. */
const replaced = (unknown, word) => field.value.split(/(\s+)/)
  .map((part) => (part.trim() && bare(part) === bare(unknown) ? word : part)).join("");

function use(text) {
  hideAnswer();
  setInstruction(text);
}

export const hideAnswer = () => (byId("answer").hidden = true);
byId("answer-close").addEventListener("click", () => {
  hideAnswer();
  field.focus();
});

/** A few instructions that the model follows, below an empty field. */
export function showSuggestions() {
  const examples = state.model.known?.examples ?? [];
  byId("suggestions").hidden = field.value.trim() !== "" || examples.length === 0;
  byId("suggestions").replaceChildren(...examples.slice(0, 3).map((text) => chip(text, () => setInstruction(text))));
}
