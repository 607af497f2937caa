// What the page knows, and news of its changes. Modules read `state`, write their own part of it and
// call `changed` with its name; others listen with `on`.

export const state = {
  /** Answer of /api/model. */
  model: null,
  /** Answer of /api/photos. */
  photo: null,
  /** The edit whose result is edited in place of the photo, or null. */
  base: null,
  /** The edit that is shown, or null: then only the photo is. */
  edit: null,
  /** All edits of this photo by id, looks included, in the order of their start. */
  edits: new Map(),
  /** The edit that runs, or null. */
  running: null,
};

const bus = new EventTarget();

/** Names: `model`, `photo`, `edit`, `edits`, `running`, `mask`, `task`, `request` (instruction, options or Where). */
export const on = (name, listener) => bus.addEventListener(name, () => listener());
export const changed = (name) => bus.dispatchEvent(new Event(name));
