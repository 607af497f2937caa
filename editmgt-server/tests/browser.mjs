// What the steps in page.mjs share: a browser, a page that notes what goes wrong in it, axe-core, and the moves that
// many steps begin with. playwright-core and axe-core come from the folder NODE_FOLDER; the project has neither.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { mock } from "./mock.mjs";

const folder = createRequire(join(resolve(process.env.NODE_FOLDER ?? "."), "/"));
const { chromium } = folder("playwright-core");
const axe = readFileSync(folder.resolve("axe-core/axe.min.js"), "utf8");
const args = process.argv.slice(2);
const option = (name) => (args.includes(name) ? args.splice(args.indexOf(name), 2)[1] : null);
const shots = option("--shots");
const only = option("--only");
/** The mock, where no URL was given. */
export const server = args[0] ? null : await mock();
export const base = args[0] ?? `http://127.0.0.1:${server.address().port}/`;

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
let failures = 0;

/* A page that notes what goes wrong in it */

export async function open(options = {}, url = base) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  page.faults = [];
  page.posts = [];
  /** Statuses that a step expects. */
  page.expected = new Set();
  page.on("pageerror", (error) => page.faults.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    // Chromium reports refused requests here, too: they are counted below.
    if (["error", "warning"].includes(message.type()) && !message.text().startsWith("Failed to load resource")) page.faults.push(`console: ${message.text()}`);
  });
  page.on("response", (response) => {
    if (response.status() >= 400 && !page.expected.has(response.status())) page.faults.push(`${response.status()} ${response.url()}`);
  });
  page.on("request", (request) => {
    if (request.method() === "POST") page.posts.push(new URL(request.url()).pathname);
  });
  await page.addInitScript(watch);
  await page.goto(url);
  return page;
}

/** In the page: notes what comes and goes too fast to be waited for. */
function watch() {
  globalThis.watched = { lines: [], previews: 0, runs: 0 };
  document.addEventListener("DOMContentLoaded", () => {
    const see = (id, what, note) => new MutationObserver(() => note(document.getElementById(id))).observe(document.getElementById(id), what);
    see("progress-text", { childList: true }, (line) => globalThis.watched.lines.push(line.textContent));
    see("progress", { attributeFilter: ["hidden"] }, (part) => { if (part.hidden) globalThis.watched.runs += 1; });
    see("after", { attributeFilter: ["src"] }, (image) => { if (image.src.startsWith("data:image/png")) globalThis.watched.previews += 1; });
  });
}

/** Does what starts a run, and waits for its end. */
export async function run(page, start) {
  const before = await page.evaluate(() => globalThis.watched.runs);
  await start();
  await page.waitForFunction((runs) => globalThis.watched.runs > runs, before, { timeout: 120_000 });
}

/** Waits for a line of progress, also one that has gone by. */
export const progress = (page, pattern) =>
  page.waitForFunction((source) => globalThis.watched.lines.some((line) => new RegExp(source).test(line)), pattern.source, { timeout: 120_000 });

export async function accessible(page, where) {
  // The text of axe-core is evaluated by the debugger's protocol, which the page's Content-Security-Policy allows.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const faults = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 140)} ${node.failureSummary.split("\n")[1] ?? ""}`));
  assert.deepEqual(faults, [], `axe-core, ${where}`);
}

export async function fits(page, where) {
  const content = await page.evaluate(() => document.documentElement.scrollWidth);
  const { width } = page.viewportSize();
  assert.ok(content <= width, `${where}: ${content} pixels wide in a window of ${width}`);
}

export const shot = async (page, name, options) => { if (shots) await page.screenshot({ path: join(shots, `${name}.png`), ...options }); };
export const text = (page, id) => page.locator(`#${id}`).textContent();
export const editsStarted = (page) => page.posts.filter((path) => path === "/api/edits").length;

export async function example(page) {
  await page.locator(".example").first().click();
  await page.locator("#editor").waitFor();
}

/** Presses Edit, and waits for the result. */
export async function edit(page) {
  await run(page, () => page.locator("#go").click());
  await page.locator("#result").waitFor();
}

export async function edited(page) {
  await example(page);
  await edit(page);
}

/** Runs a step in a page of its own, and fails for what went wrong in it. */
export async function step(name, options, run) {
  if (only && !name.includes(only)) return;
  const start = Date.now();
  const page = await open(options);
  try {
    await run(page);
    assert.deepEqual(page.faults, []);
    console.log(`ok    ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${name}\n      ${error.stack.replaceAll("\n", "\n      ")}`);
    await shot(page, `fail-${name.replaceAll(/\W+/g, "-")}`);
  }
  await page.context().close();
}

export async function file(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator(`#${button}`).click()]);
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

/** Sets a slider as a person does, in several moves. */
export async function slide(page, id, values) {
  for (const value of values) {
    await page.locator(`#${id}`).fill(String(value));
    await page.waitForTimeout(120);
  }
}

/** Sets an option in the panel. */
export async function setOption(page, name, value) {
  if (!(await page.locator("#options").isVisible())) await page.locator("#options-panel summary").click();
  await page.locator(`#option-${name}`).fill(value);
}

/** Closes the browser and the mock; the program's exit status. */
export async function end() {
  await browser.close();
  server?.closeAllConnections();
  server?.close();
  console.log(failures === 0 ? "all steps passed" : `${failures} failed`);
  process.exitCode = failures === 0 ? 0 : 1;
}
