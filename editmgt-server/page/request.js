// What is asked for: the instruction and the options, as API.md's table of "What to edit" wants them.

import { byId } from "./dom.js";

/** Options that were set in the panel, name to text; the model's defaults are absent. */
export const options = new Map();

export const instruction = () => byId("instruction").value.trim();

/** Those of `names` that were set. */
export const otherOptions = (names) => Object.fromEntries([...options].filter(([name]) => names.includes(name)));
