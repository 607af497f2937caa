// Made-up pictures for the mock server: a scene of shapes with the names of things, an "edit" that recolours the shape that the instruction
// names, and the score map that a model could have had for it.

export const COLOURS = { red: [205, 40, 45], orange: [235, 130, 30], yellow: [245, 205, 60], green: [60, 150, 80],
  blue: [50, 95, 200], purple: [125, 65, 165] };
const GROUNDS = { snow: [240, 243, 248], sand: [222, 200, 160], sky: [165, 205, 235], grass: [110, 160, 90], slate: [95, 105, 115] };

const INSIDE = {
  car: (x, y) => x * x + y * y <= 1,
  apple: (x, y) => Math.abs(x) <= 0.9 && Math.abs(y) <= 0.9,
  mushroom: (x, y) => y <= 0.9 && Math.abs(x) <= (y + 1) / 2,
};

export const WORDS = [...Object.keys(COLOURS), ...Object.keys(GROUNDS), ...Object.keys(INSIDE), "a", "the", "make", "turn",
  "remove", "into", "change", "background"].sort();

/** The scenes that are offered as examples. */
export const SCENES = {
  scene: { ground: "snow", instruction: "make the red car blue",
    shapes: [["car", "red", 38, 38, 16], ["apple", "red", 90, 64, 14], ["mushroom", "purple", 106, 112, 14]] },
  meadow: { ground: "grass", instruction: "turn the yellow mushroom red",
    shapes: [["mushroom", "yellow", 42, 80, 22], ["car", "orange", 93, 35, 14]] },
  beach: { ground: "sand", instruction: "make the blue apple green",
    shapes: [["apple", "blue", 64, 54, 21], ["car", "yellow", 26, 102, 13], ["mushroom", "green", 106, 99, 13]] },
};

export function draw({ ground, shapes }, side = 128) {
  const rgb = Buffer.alloc(3 * side * side);
  for (let i = 0; i < side * side; i += 1) {
    const [x, y] = [i % side, Math.floor(i / side)];
    let colour = GROUNDS[ground];
    for (const [kind, name, left, top, size] of shapes) {
      if (INSIDE[kind]((x + 0.5 - left) / size, (y + 0.5 - top) / size)) colour = COLOURS[name];
    }
    rgb.set(colour, 3 * i);
  }
  return { width: side, height: side, rgb };
}

const near = (rgb, i, colour) => Math.hypot(rgb[i] - colour[0], rgb[i + 1] - colour[1], rgb[i + 2] - colour[2]) < 60;

/** Centre of the first shape in the first colour of `words`; without one, of the picture. */
function target({ width, height, rgb }, words) {
  const colour = COLOURS[words.find((word) => COLOURS[word])] ?? [0, 0, 0];
  const first = Array.from({ length: width * height }, (_, i) => i).find((i) => near(rgb, 3 * i, colour));
  if (first === undefined) return [width / 2, height / 2];
  const shape = new Set([first]);
  for (const i of shape) {
    for (const next of [i - width, i + width, i - 1, i + 1]) {
      if (next >= 0 && next < width * height && near(rgb, 3 * next, colour)) shape.add(next);
    }
  }
  const mean = (of) => [...shape].reduce((sum, i) => sum + of(i), 0) / shape.size;
  return [mean((i) => i % width), mean((i) => Math.floor(i / width))];
}

/** Scores from 0 to 1 for a grid of tokens. */
export function scores(picture, words, grid) {
  const [x, y] = target(picture, words);
  const map = Array.from({ length: grid.width * grid.height }, (_, i) => {
    const dx = ((i % grid.width) + 0.5) / grid.width - x / picture.width;
    const dy = (Math.floor(i / grid.width) + 0.5) / grid.height - y / picture.height;
    return Math.exp(-(dx * dx + dy * dy) / 0.06);
  });
  const most = Math.max(...map);
  return map.map((score) => score / most);
}

/** The picture with what may change in the last colour of the instruction; `share` of the way. */
export function edit(picture, words, mayChange, variation, share = 1) {
  const names = words.filter((word) => COLOURS[word]);
  const [from, to] = [COLOURS[names[0]] ?? [0, 0, 0], COLOURS[names.at(-1)] ?? COLOURS.blue];
  const rgb = Buffer.from(picture.rgb);
  for (let i = 0; i < picture.width * picture.height; i += 1) {
    const [x, y] = [i % picture.width, Math.floor(i / picture.width)];
    if (!mayChange(x, y) || !near(picture.rgb, 3 * i, from)) continue;
    to.forEach((level, c) => {
      rgb[3 * i + c] = rgb[3 * i + c] + share * (Math.min(255, Math.max(0, level + 18 * ((variation % 4) - (variation ? 2 : 0)))) - rgb[3 * i + c]);
    });
  }
  return { ...picture, rgb };
}
