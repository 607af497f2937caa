// The score map and the region, drawn over the picture from an answer of /api/maps: a byte for each token.

import { byId } from "./dom.js";

const NAMESPACE = "http://www.w3.org/2000/svg";

/** The colours of viridis at 0, 1/4, ... 1: even in brightness, readable without colour vision. */
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function viridis(score) {
  const place = score * (VIRIDIS.length - 1);
  const below = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[below].map((level, i) => level + (place - below) * (VIRIDIS[below + 1][i] - level));
}

const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

/** Shows the maps; `null` clears. `photo` has the width and height in pixels. */
export function drawMaps(maps, photo) {
  const [canvas, outline] = [byId("scores"), byId("region")];
  outline.replaceChildren();
  canvas.width = maps?.grid.width ?? 1;
  canvas.height = maps?.grid.height ?? 1;
  if (!maps) return;
  for (const layer of [canvas, outline]) {
    layer.style.left = `${(100 * maps.area.left) / photo.width}%`;
    layer.style.top = `${(100 * maps.area.top) / photo.height}%`;
    layer.style.width = `${(100 * maps.area.width) / photo.width}%`;
    layer.style.height = `${(100 * maps.area.height) / photo.height}%`;
  }
  drawScores(canvas, bytes(maps.scores));
  drawRegion(outline, bytes(maps.held), maps.grid);
}

function drawScores(canvas, scores) {
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  scores.forEach((score, i) => pixels.data.set([...viridis(score / 255), 255], 4 * i));
  context.putImageData(pixels, 0, 0);
}

/** What is held is dimmed; a line goes around what may change. */
function drawRegion(svg, held, { width, height }) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const stays = (x, y) => x < 0 || y < 0 || x >= width || y >= height || held[y * width + x] === 1;
  let [cells, edges] = ["", ""];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (stays(x, y)) {
        cells += `M${x} ${y}h1v1h-1z`;
        continue;
      }
      if (stays(x, y - 1)) edges += `M${x} ${y}h1`;
      if (stays(x, y + 1)) edges += `M${x} ${y + 1}h1`;
      if (stays(x - 1, y)) edges += `M${x} ${y}v1`;
      if (stays(x + 1, y)) edges += `M${x + 1} ${y}v1`;
    }
  }
  for (const [name, path] of [["held", cells], ["edge-under", edges], ["edge", edges]]) {
    const element = document.createElementNS(NAMESPACE, "path");
    element.setAttribute("class", name);
    element.setAttribute("d", path);
    svg.append(element);
  }
}

/* Which of them are shown, and how strongly. */

const sheet = byId("sheet");
export function showLayers({ scores, region }) {
  if (scores !== undefined) byId("show-scores").checked = scores;
  if (region !== undefined) byId("show-region").checked = region;
  sheet.classList.toggle("with-scores", byId("show-scores").checked);
  sheet.classList.toggle("with-region", byId("show-region").checked);
}
for (const id of ["show-scores", "show-region"]) byId(id).addEventListener("change", () => showLayers({}));
byId("opacity").addEventListener("input", () => {
  sheet.style.setProperty("--overlay", byId("opacity").value / 100);
  byId("opacity-value").textContent = `${byId("opacity").value}%`;
});
