// Helpers for elements: find one, make one, say something to a screen reader.

export const byId = (id) => document.getElementById(id);

/** Makes an element. Properties with a hyphen or `role` are attributes, `on...` are listeners. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (name.includes("-") || name === "role" || name === "for" || name === "list") {
      element.setAttribute(name, value);
    } else {
      element[name] = value;
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Speaks a sentence in the page's live region; it is not shown. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Calls `f` once, `milliseconds` after the last call. */
export function debounced(f, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(f, milliseconds);
  };
}

/** Hides `from` and shows `to`; the focus moves along. */
export function swap(from, to) {
  const focused = from.contains(document.activeElement);
  to.hidden = false;
  from.hidden = true;
  if (focused) to.focus();
}

/** "1 step", "2 steps". */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** "about 3 minutes". */
export function duration(seconds) {
  if (seconds < 1) return "under a second";
  if (seconds < 90) return `about ${count(Math.round(seconds), "second")}`;
  return `about ${count(Math.round(seconds / 60), "minute")}`;
}
