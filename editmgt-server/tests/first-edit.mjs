// From nothing to the first edit in the page: starts the server, clicks an example, clicks Edit, and waits for the
// result. Fails where it takes longer than 5 seconds; the browser is open before.
//
//     NODE_FOLDER=FOLDER node editmgt-server/tests/first-edit.mjs PROGRAM

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const MOST_SECONDS = 5;
const folder = createRequire(join(resolve(process.env.NODE_FOLDER ?? "."), "/"));
const { chromium } = folder("playwright-core");

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
const start = performance.now();
const since = () => ((performance.now() - start) / 1000).toFixed(2);

// Action 1: the command.
const server = spawn(process.argv[2], ["serve", "--port", "0", "--log", "off"], { stdio: ["ignore", "pipe", "inherit"] });
const [address] = await new Promise((found, failed) => {
  createInterface({ input: server.stdout }).once("line", (line) => found([line]));
  server.once("exit", (code) => failed(new Error(`the server ended with ${code}`)));
});
const listens = since();
await page.goto(address);
// Action 2: an example.
await page.locator(".example").first().click();
// Action 3: Edit.
await page.locator("#go").click();
await page.locator("#result-title", { hasText: "own bytes" }).waitFor();
const seconds = since();
console.log(`three actions, ${seconds} s from the command to the first edit (the server listened after ${listens} s)`);
process.exitCode = Number(seconds) <= MOST_SECONDS ? 0 : 1;
await browser.close();
server.removeAllListeners("exit");
server.kill("SIGINT");
