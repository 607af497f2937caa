// The stage: the sheet with the picture's layers, zoomed and panned as a whole, and the before-and-after slider.
// `x` and `y` are the sheet's corner in the stage, `scale` is screen pixels per pixel of the photo.

import { byId } from "./dom.js";

const stage = byId("stage");
const sheet = byId("sheet");
const handle = byId("split");
const view = { x: 0, y: 0, scale: 1, fitted: true };
const size = { width: 1, height: 1 };
/** Where the photo is in the picture. */
const origin = { x: 0, y: 0 };
/** Share of the width that shows the photo before the edit. */
let split = 0;
/** Takes pointers and keys in place of panning while a tool is chosen: see brush.js. */
let tool = null;

const MAX_SCALE = 64;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export function setTool(newTool) {
  tool = newTool;
  stage.classList.toggle("has-tool", tool !== null);
  touchMode();
}

/** Shows a picture of this size; `photo` is the photo's place in it, by default all of it. */
export function showSize(width, height, photo = { left: 0, top: 0, width, height }) {
  Object.assign(origin, { x: photo.left, y: photo.top });
  for (const [name, pixels, whole] of [["left", photo.left, width], ["top", photo.top, height], ["width", photo.width, width],
    ["height", photo.height, height]]) sheet.style.setProperty(`--${name}`, `${(100 * pixels) / whole}%`);
  if (size.width === width && size.height === height) return;
  Object.assign(size, { width, height });
  sheet.style.width = `${width}px`;
  sheet.style.height = `${height}px`;
  fit();
}

/** The whole photo in the stage; the pixels of small ones in halves of the screen's. */
export function fit() {
  const margin = 16;
  const room = Math.min((stage.clientWidth - margin) / size.width, (stage.clientHeight - margin) / size.height);
  const scale = room > 2 ? Math.floor(2 * room) / 2 : room;
  Object.assign(view, {
    scale,
    x: (stage.clientWidth - scale * size.width) / 2,
    y: (stage.clientHeight - scale * size.height) / 2,
    fitted: true,
  });
  draw();
}

/** Zooms by a factor about a point of the stage, by default its middle. */
export function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const least = Math.min(stage.clientWidth / size.width, stage.clientHeight / size.height, 1) / 4;
  const scale = Math.min(MAX_SCALE, Math.max(least, view.scale * factor));
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  Object.assign(view, { scale, fitted: false });
  draw();
}

export function pan(x, y) {
  view.x += x;
  view.y += y;
  view.fitted = false;
  draw();
}

/** The pixel of the photo under a pointer. */
export function pixelAt(event) {
  const box = stage.getBoundingClientRect();
  return {
    x: (event.clientX - box.left - view.x) / view.scale - origin.x,
    y: (event.clientY - box.top - view.y) / view.scale - origin.y,
  };
}

/** Where a pixel of the photo is on the stage, and how large. */
export const onStage = ({ x, y }) => (
  { x: view.x + (x + origin.x) * view.scale, y: view.y + (y + origin.y) * view.scale, scale: view.scale });

function draw() {
  const { scale } = view;
  // At least a strip of the picture stays in sight.
  const [width, height] = [size.width * scale, size.height * scale];
  view.x = Math.min(stage.clientWidth - 48, Math.max(48 - width, view.x));
  view.y = Math.min(stage.clientHeight - 48, Math.max(48 - height, view.y));
  sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${scale})`;
  sheet.style.setProperty("--pixel", `${1 / scale}px`);
  sheet.classList.toggle("pixels", scale * devicePixelRatio >= 2);
  byId("zoom-value").textContent = `${Math.round(scale * 100)}%`;
  drawSplit();
  touchMode();
  tool?.moved();
}

/** A finger scrolls the page over a picture that is shown whole, and moves one that is zoomed. */
function touchMode() {
  stage.style.touchAction = tool || !view.fitted ? "none" : "pan-y";
}

/* Before and after */

function drawSplit() {
  const edge = view.x + split * size.width * view.scale;
  handle.style.left = `${Math.min(stage.clientWidth - 20, Math.max(20, edge))}px`;
  const top = Math.max(0, view.y);
  handle.style.top = `${top}px`;
  handle.style.height = `${Math.min(stage.clientHeight, view.y + size.height * view.scale) - top}px`;
  byId("after").style.clipPath = `inset(0 0 0 ${split * 100}%)`;
  const percent = Math.round(split * 100);
  const [before, after] = byId("stage-labels").children;
  before.hidden = percent < 4;
  after.hidden = percent > 96;
  handle.setAttribute("aria-valuenow", percent);
  handle.setAttribute("aria-valuetext", `${percent}% before, ${100 - percent}% after`);
}

export function setSplit(share) {
  split = Math.min(1, Math.max(0, share));
  drawSplit();
}

/** Wipes from before to after, once, so that the slider is seen to exist. */
export function reveal() {
  if (still.matches) return setSplit(0);
  const start = performance.now();
  const frame = (now) => {
    const time = Math.min(1, (now - start) / 700);
    setSplit((1 - time) ** 3);
    if (time < 1) requestAnimationFrame(frame);
  };
  setSplit(1);
  requestAnimationFrame(frame);
}

handle.addEventListener("pointerdown", (event) => {
  event.stopPropagation();
  handle.setPointerCapture(event.pointerId);
});
handle.addEventListener("pointermove", (event) => {
  if (handle.hasPointerCapture(event.pointerId)) setSplit((pixelAt(event).x + origin.x) / size.width);
});
handle.addEventListener("keydown", (event) => {
  const to = { ArrowLeft: split - 0.02, ArrowRight: split + 0.02, Home: 0, End: 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  setSplit(to);
});

/* Pointers: one pans or uses the tool, two zoom. */

/** Where each pressed pointer was last, and its button. */
const pointers = new Map();

stage.addEventListener("pointerdown", (event) => {
  if (event.button > 1) return;
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, button: event.button });
  stage.setPointerCapture(event.pointerId);
  if (pointers.size === 2) tool?.cancel();
  else if (event.button === 0) tool?.down(event);
});
stage.addEventListener("pointermove", (event) => {
  tool?.hover(event);
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const now = { ...last, x: event.clientX, y: event.clientY };
  pointers.set(event.pointerId, now);
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const box = stage.getBoundingClientRect();
    const distance = (a) => Math.max(1, Math.hypot(a.x - other.x, a.y - other.y));
    pan((now.x - last.x) / 2, (now.y - last.y) / 2);
    zoom(distance(now) / distance(last), (now.x + other.x) / 2 - box.left, (now.y + other.y) / 2 - box.top);
  } else if (tool && last.button === 0) {
    tool.move(event);
  } else if (event.pointerType !== "touch" || !view.fitted) {
    pan(now.x - last.x, now.y - last.y);
  }
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, (event) => {
    if (pointers.delete(event.pointerId)) tool?.up(event);
  });
}
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });

stage.addEventListener("keydown", (event) => {
  if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = event.shiftKey ? 200 : 40;
  const keys = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: fit, 1: () => zoom(1 / view.scale),
    ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0),
    ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step),
  };
  if (!tool?.key(event)) {
    if (!keys[event.key]) return;
    keys[event.key]();
  }
  event.preventDefault();
});

byId("zoom-in").addEventListener("click", () => zoom(1.5));
byId("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
byId("zoom-fit").addEventListener("click", fit);
byId("zoom-one").addEventListener("click", () => zoom(1 / view.scale));
new ResizeObserver(() => (view.fitted ? fit() : draw())).observe(stage);
