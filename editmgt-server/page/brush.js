// The mask by hand: paint, erase, size, undo, load, save. The mask is a list of strokes, drawn again from the
// first after each undo; white may change. With the keyboard: arrows move the brush, Space paints.

import { announce, byId } from "./dom.js";
import { saveBlob } from "./save.js";
import { changed } from "./state.js";
import { onStage, pixelAt, setTool } from "./view.js";

/** What the mask is shown in: no photo has much of it. Only its opacity counts. */
const TINT = [230, 0, 110];

const canvas = byId("mask");
const context = canvas.getContext("2d");
const cursor = byId("brush-cursor");
const MOST_SIDE = 2048;
/** Size of the photo, and pixels of the mask for each of its pixels. */
const photo = { width: 1, height: 1 };
let scale = 1;
/** `{erase, size, points}` or `{image}`. */
let strokes = [];
let stroke = null;
/** Where the keyboard's brush is, in pixels of the photo. */
const place = { x: 0, y: 0 };

export function newMask(width, height) {
  // A mask may be smaller than its photo: tokens and feathering need no more.
  scale = Math.min(1, MOST_SIDE / Math.max(width, height));
  Object.assign(canvas, { width: Math.round(scale * width), height: Math.round(scale * height) });
  Object.assign(photo, { width, height });
  Object.assign(place, { x: width / 2, y: height / 2 });
  strokes = [];
  const size = Math.max(1, Math.round(Math.min(width, height) / 8));
  Object.assign(byId("brush-size"), { max: Math.max(8, Math.round(Math.max(width, height) / 2)), value: size });
  redraw();
}

export const isPainted = () => strokes.length > 0;

/** The mask as a PNG: white on black. */
export function maskImage() {
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const target = copy.getContext("2d");
  target.drawImage(canvas, 0, 0);
  for (const [operation, colour] of [["source-in", "#fff"], ["destination-over", "#000"]]) {
    Object.assign(target, { globalCompositeOperation: operation, fillStyle: colour });
    target.fillRect(0, 0, canvas.width, canvas.height);
  }
  return copy.convertToBlob({ type: "image/png" });
}

/** Takes an image as the mask: white, or where the image is drawn on nothing, may change. */
export async function loadMask(file) {
  const image = await createImageBitmap(file);
  const work = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
  work.drawImage(image, 0, 0, canvas.width, canvas.height);
  const pixels = work.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [red, green, blue, alpha] = pixels.data.subarray(i, i + 4);
    pixels.data.set([...TINT, ((0.299 * red + 0.587 * green + 0.114 * blue) * alpha) / 255], i);
  }
  work.putImageData(pixels, 0, 0);
  strokes.push({ image: work.canvas });
  redraw();
}

function redraw() {
  context.clearRect(0, 0, canvas.width, canvas.height);
  strokes.forEach(paint);
  byId("brush-undo").disabled = byId("brush-clear").disabled = byId("mask-save").disabled = strokes.length === 0;
  changed("mask");
  changed("request");
}

function paint({ image, erase, size, points }) {
  if (image) return context.drawImage(image, 0, 0);
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.setTransform(scale, 0, 0, scale, 0, 0);
  Object.assign(context, { lineWidth: size, lineCap: "round", lineJoin: "round", strokeStyle: `rgb(${TINT})` });
  context.beginPath();
  points.forEach(({ x, y }, i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  // A point is a line with round ends; one of no length would not be drawn.
  if (points.length === 1) context.lineTo(points[0].x + 0.01, points[0].y);
  context.stroke();
  context.resetTransform();
  context.globalCompositeOperation = "source-over";
}

const begin = (point) => ({ erase: byId("brush-erase").checked, size: Number(byId("brush-size").value), points: [point] });

function showCursor() {
  const { x, y, scale: zoom } = onStage(place);
  const size = Number(byId("brush-size").value) * zoom;
  Object.assign(cursor.style, { left: `${x}px`, top: `${y}px`, width: `${size}px`, height: `${size}px` });
}

const tool = {
  down(event) {
    stroke = begin(pixelAt(event));
    strokes.push(stroke);
    paint(stroke);
  },
  move(event) {
    if (!stroke) return;
    stroke.points.push(pixelAt(event));
    paint({ ...stroke, points: stroke.points.slice(-2) });
  },
  up() {
    if (stroke) redraw();
    stroke = null;
  },
  moved: showCursor,
  /** A second finger: it was no stroke but a pinch. */
  cancel() {
    strokes = strokes.filter((other) => other !== stroke);
    stroke = null;
    redraw();
  },
  hover(event) {
    Object.assign(place, pixelAt(event));
    showCursor();
  },
  key(event) {
    const size = Number(byId("brush-size").value);
    const step = event.shiftKey ? 4 * size : size / 2;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) {
      place.x = Math.min(photo.width, Math.max(0, place.x + moves[event.key][0]));
      place.y = Math.min(photo.height, Math.max(0, place.y + moves[event.key][1]));
      announce(`${Math.round(place.x)}, ${Math.round(place.y)}`);
    } else if (event.key === " ") {
      strokes.push(begin({ ...place }));
      redraw();
      announce(byId("brush-erase").checked ? "Erased" : "Painted");
    } else if (event.key === "[" || event.key === "]") {
      byId("brush-size").value = size * (event.key === "[" ? 0.8 : 1.25);
    } else {
      return false;
    }
    showCursor();
    return true;
  },
};

/** Shows the mask, and lets pointers and keys on the stage paint. */
export function useBrush(active) {
  byId("stage").classList.toggle("with-mask", active);
  setTool(active ? tool : null);
  if (active) showCursor();
}

export function undo() {
  strokes.pop();
  redraw();
}

byId("brush-undo").addEventListener("click", undo);
byId("brush-clear").addEventListener("click", () => {
  strokes = [];
  redraw();
});
byId("brush-size").addEventListener("input", () => showCursor());
byId("mask-load").addEventListener("click", () => byId("mask-file").click());
byId("mask-file").addEventListener("change", async ({ target }) => {
  if (target.files[0]) await loadMask(target.files[0]);
  target.value = "";
});
byId("mask-save").addEventListener("click", async () => saveBlob(await maskImage(), "mask.png"));
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=range], [type=radio], [type=checkbox]), textarea");
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && !typing && canvas.offsetParent && strokes.length) {
    event.preventDefault();
    undo();
  }
});
