// Makes the screenshots of README.md and docs/server.md.
//
//     NODE_FOLDER=FOLDER node editmgt-server/tests/screenshots.mjs URL FOLDER_OF_IMAGES

import { join } from "node:path";
import { edited, end, example, open, run, slide } from "./browser.mjs";

const folder = process.argv[3];
const shot = (page, name) => page.screenshot({ path: join(folder, `page-${name}.png`) });
/** After the wipe from before to after, with the pointer over nothing. */
const settle = async (page) => {
  await page.mouse.move(1, 1);
  await page.waitForTimeout(900);
  await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
};

/** Half before, half after. */
async function half(page) {
  const handle = await page.locator("#split").boundingBox();
  const sheet = await page.locator("#before").boundingBox();
  await page.mouse.move(handle.x + 20, handle.y + 30);
  await page.mouse.down();
  await page.mouse.move(sheet.x + 0.3 * sheet.width, handle.y + 30, { steps: 4 });
  await page.mouse.up();
}

const window = { viewport: { width: 1280, height: 860 } };
const light = await open(window);
await edited(light);
await settle(light);
await half(light);
await light.locator("#variations").selectOption("2");
await run(light, () => light.locator("#more").click());
await settle(light);
await half(light);
await settle(light);
await shot(light, "light");

const dark = await open({ ...window, colorScheme: "dark" });
await example(dark);
await dark.locator('.segments label:has(input[value="word"])').click();
await dark.locator("#words .chip", { hasText: "car" }).click();
await dark.locator("#region-text", { hasText: "may change" }).waitFor();
await slide(dark, "threshold", [30]);
await settle(dark);
await shot(dark, "dark");

const phone = await open({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true });
await edited(phone);
await settle(phone);
await shot(phone, "phone");
await end();
