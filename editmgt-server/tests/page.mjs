// Drives the page in headless Chromium: what a person does with it, by mouse, by keyboard and on a phone.
//
//     NODE_FOLDER=FOLDER node editmgt-server/tests/page.mjs [URL] [--shots FOLDER] [--only WORDS]
//
// scripts/test_page.sh installs what it needs into FOLDER, starts a server and runs it.
// Without a URL it starts the mock server. Chromium is /usr/bin/chromium, or what CHROMIUM names. The exit status is 1
// where a step fails: also by console errors, by refused requests that the step does not expect, and by faults that
// axe-core finds. --shots writes screenshots; --only runs the steps with these words in their name.

import assert from "node:assert/strict";
import {
  accessible, base, edit, edited, editsStarted, end, example, file, fits, open, progress, run, server, setOption, shot, slide,
  step, text,
} from "./browser.mjs";
import { mock } from "./mock.mjs";
import { decode, encode } from "./png.mjs";

await step("edits an example in two actions, with progress by step", {}, async (page) => {
  await page.locator(".example img[src]").first().waitFor();
  await accessible(page, "welcome");
  await shot(page, "welcome-light");
  await example(page);
  await page.locator("#plan", { hasText: "Works at" }).waitFor();
  await accessible(page, "photo");
  await shot(page, "photo-light");
  await run(page, async () => {
    await page.locator("#go").click();
    await page.waitForFunction(() => globalThis.watched.previews > 0);
    await shot(page, "progress-light");
  });
  await progress(page, /^Step 1 of \d+/);
  await progress(page, /^Step 2 of \d+/);
  assert.match(await text(page, "result-title"), /^\d+(\.\d)?% of the pixels are your photo’s own bytes\.$/);
  await page.waitForTimeout(900);
  assert.equal(await page.locator("#split").getAttribute("aria-valuenow"), "0");
  await page.locator("#result summary").click();
  await accessible(page, "result");
  await shot(page, "result-light");
});

await step("before and after, zoom and pan", {}, async (page) => {
  await edited(page);
  await page.waitForTimeout(900);
  const handle = await page.locator("#split").boundingBox();
  const sheet = await page.locator("#before").boundingBox();
  await page.mouse.move(handle.x + 20, handle.y + handle.height / 2);
  await page.mouse.down();
  await page.mouse.move(sheet.x + sheet.width / 2, handle.y + 40, { steps: 5 });
  await page.mouse.up();
  assert.match(await page.locator("#split").getAttribute("aria-valuetext"), /^50% before, 50% after$/);
  assert.match(await page.locator("#after").evaluate((element) => element.style.clipPath), /inset\(0px? 0px? 0px? 50/);
  await shot(page, "split-light");
  await page.locator("#zoom-one").click();
  assert.equal(await text(page, "zoom-value"), "100%");
  assert.equal((await page.locator("#before").boundingBox()).width, 128);
  await page.mouse.move(sheet.x + 40, sheet.y + 40);
  await page.mouse.wheel(0, -400);
  assert.notEqual(await text(page, "zoom-value"), "100%");
  const before = await page.locator("#before").boundingBox();
  await page.mouse.down();
  await page.mouse.move(sheet.x + 70, sheet.y + 60, { steps: 3 });
  await page.mouse.up();
  const after = await page.locator("#before").boundingBox();
  assert.deepEqual([after.x - before.x, after.y - before.y].map(Math.round), [30, 20]);
  await page.locator("#zoom-fit").click();
  assert.deepEqual(await page.locator("#before").boundingBox(), sheet);
});

await step("stops an edit and continues it", {}, async (page) => {
  await example(page);
  await setOption(page, "steps", "200");
  const stopAfter = (least, start) => run(page, async () => {
    await start.click();
    await page.waitForFunction((number) => Number(document.getElementById("progress-text").textContent.match(/tep (\d+) of/)?.[1]) > number, least);
    await page.locator("#stop").click();
  });
  await stopAfter(1, page.locator("#go"));
  assert.match(await text(page, "result-title"), /^Stopped after \d+ of 200 steps\.$/);
  assert.equal(await page.locator("#instruction").inputValue(), "make the red car blue");
  assert.equal(await page.locator("#option-steps").inputValue(), "200");
  assert.ok(await page.locator("#resume").isVisible() && !(await page.locator("#save-png").isVisible()));
  await shot(page, "stopped-light");
  const done = Number((await text(page, "result-title")).match(/\d+/)[0]);
  await stopAfter(done, page.locator("#resume"));
  assert.ok(Number((await text(page, "result-title")).match(/\d+/)[0]) > done);
});

await step("λ and the budget redraw the region without a model run", {}, async (page) => {
  await edited(page);
  const runs = editsStarted(page);
  const counts = server ? (await (await fetch(`${base}mock/counts`)).json()).steps : 0;
  await slide(page, "threshold", [10, 30, 60]);
  await page.locator("#region-text", { hasText: "may change" }).waitFor();
  assert.ok(await page.locator('input[name="limit"][value="threshold"]').isChecked());
  assert.ok(await page.locator("#show-region").isChecked());
  const share = async () => Number((await text(page, "region-text")).match(/^(\d+)%/)[1]);
  const narrow = await share();
  await slide(page, "threshold", [5]);
  await page.waitForTimeout(400);
  assert.ok((await share()) > narrow, "a lower λ lets more change");
  await slide(page, "budget", [50, 10]);
  await page.waitForTimeout(400);
  assert.ok((await share()) <= 10);
  await page.locator("#show-scores").check();
  await shot(page, "region-light");
  await accessible(page, "overlays");
  assert.equal(editsStarted(page), runs);
  assert.ok(page.posts.filter((path) => path === "/api/maps").length >= 4);
  if (server) assert.equal((await (await fetch(`${base}mock/counts`)).json()).steps, counts);
  assert.equal(await text(page, "go"), "Again");
  await edit(page);
  assert.equal(editsStarted(page), runs + 1);
  assert.equal(await page.locator("#history .opener").count(), 3);
});

await step("a word shows its map, by a look where there is none", {}, async (page) => {
  await example(page);
  await page.locator('.segments label:has(input[value="word"])').click();
  await page.locator("#words .chip", { hasText: "car" }).click();
  await page.locator("#region-text", { hasText: "may change" }).waitFor();
  assert.equal(editsStarted(page), 1);
  assert.ok(await page.locator("#show-scores").isChecked());
  await page.locator("#words .chip", { hasText: "red" }).click();
  await page.waitForTimeout(300);
  assert.equal(editsStarted(page), 1, "the look has the maps of all words");
  assert.equal(await page.locator('#words [aria-pressed="true"]').count(), 2);
  await shot(page, "word-light");
  await accessible(page, "words");
  assert.ok(!(await page.locator("#history-part").isVisible()), "a look is not an edit");
  await edit(page);
  await page.locator('.segments label:has(input[value="auto"])').click();
  await page.locator("#history .opener").nth(1).click();
  await page.waitForFunction(() => document.querySelectorAll('#words [aria-pressed="true"]').length === 2);
  await page.waitForFunction(() => document.querySelectorAll("#words .chip").length === 3);
});

await step("paints, erases, undoes, saves and loads a mask", {}, async (page) => {
  await example(page);
  await page.locator('.segments label:has(input[value="brush"])').click();
  await page.locator("#go").click();
  await page.locator("#message", { hasText: "Paint where" }).waitFor();
  const sheet = await page.locator("#before").boundingBox();
  const stroke = async (from, to) => {
    await page.mouse.move(sheet.x + from[0] * sheet.width, sheet.y + from[1] * sheet.height);
    await page.mouse.down();
    await page.mouse.move(sheet.x + to[0] * sheet.width, sheet.y + to[1] * sheet.height, { steps: 6 });
    await page.mouse.up();
  };
  const white = async () => {
    const { bytes } = await file(page, "mask-save");
    const { rgb } = decode(bytes);
    assert.ok(rgb.every((level) => level === 0 || level === 255 || level > 0), "a mask");
    return rgb.filter((level) => level > 127).length / rgb.length;
  };
  await slide(page, "brush-size", [20]);
  await stroke([0.2, 0.3], [0.4, 0.3]);
  const first = await white();
  assert.ok(first > 0.05 && first < 0.3, `${first} is white`);
  await stroke([0.6, 0.8], [0.8, 0.8]);
  assert.ok((await white()) > 1.5 * first);
  await page.keyboard.press("Control+z");
  assert.equal(await white(), first);
  await page.locator('.segments label:has(#brush-erase)').click();
  await stroke([0.2, 0.3], [0.3, 0.3]);
  const erased = await white();
  assert.ok(erased < first);
  await page.locator("#brush-undo").click();
  await shot(page, "brush-light");
  await accessible(page, "brush");
  await edit(page);
  assert.equal(await text(page, "message"), "");
  await page.locator("#result summary").click();
  const mask = await file(page, "save-mask");
  assert.equal(decode(mask.bytes).width, 128);
  await page.locator("#brush-clear").click();
  assert.ok(await page.locator("#mask-save").isDisabled());
  await page.locator("#mask-file").setInputFiles({ name: "mask.png", mimeType: "image/png", buffer: mask.bytes });
  await page.locator("#mask-save:not([disabled])").waitFor();
  assert.equal(await white(), first, "a saved mask is loaded as it was");
  await page.locator('.segments label:has(input[value="both"])').click();
  await edit(page);
  await page.locator("#brush-clear").click();
  await page.locator("#history .opener").nth(1).click();
  await page.locator("#mask-save:not([disabled])").waitFor();
  assert.equal(await white(), first, "an edit in the history brings its mask");
  assert.ok(await page.locator('input[name="where"][value="brush"]').isChecked());
});

await step("variations as a strip, more like this, history as a tree", {}, async (page) => {
  await example(page);
  await page.locator("#variations").selectOption("2");
  await edit(page);
  await progress(page, /^Variation 2 of 2/);
  assert.equal(await page.locator("#strip .opener").count(), 2);
  await run(page, () => page.locator("#more").click());
  assert.equal(await page.locator("#strip .opener").count(), 4);
  await page.locator("#strip .opener").first().click();
  assert.equal(await page.locator("#strip .opener").first().getAttribute("aria-current"), "true");
  await page.locator("#variations").selectOption("1");
  await page.locator("#further").click();
  await page.locator("#base-note").waitFor();
  await page.locator("#instruction").fill("make the green apple red");
  await run(page, () => page.keyboard.press("Enter"));
  assert.equal(await page.locator("#history ul ul .opener").count(), 1, "the edit of an edit is below it");
  await page.waitForTimeout(900);
  await shot(page, "history-light");
  await accessible(page, "history");
  await page.locator("#history .opener").first().click();
  await page.locator("#result").waitFor({ state: "hidden" });
  await page.reload();
  await page.locator("#history .opener").nth(5).waitFor();
  await page.locator("#history .opener").nth(1).click();
  assert.equal(await page.locator("#instruction").inputValue(), "make the red car blue");
  await page.locator("#result").waitFor();
});

if (!server) {
  await step("fills in and extends a photo, by a model that can", {}, async (page) => {
    await example(page);
    await page.locator('.segments label:has(input[value="inpaint"])').click();
    assert.ok(!(await page.locator("#where-choice").isVisible()), "what is painted is where");
    await page.locator("#instruction").fill("a green cat");
    await page.locator("#go").click();
    await page.locator("#message", { hasText: "Paint where" }).waitFor();
    const sheet = await page.locator("#before").boundingBox();
    await page.mouse.move(sheet.x + 0.7 * sheet.width, sheet.y + 0.3 * sheet.height);
    await page.mouse.down();
    await page.mouse.move(sheet.x + 0.8 * sheet.width, sheet.y + 0.3 * sheet.height, { steps: 4 });
    await page.mouse.up();
    await edit(page);
    assert.match(await text(page, "result-title"), /own bytes/);
    await shot(page, "inpaint-light");
    await accessible(page, "fill in");
    await page.locator('.segments label:has(input[value="outpaint"])').click();
    assert.ok(!(await page.locator("#where-panel").isVisible()));
    await page.locator("#instruction").fill("a red car");
    await edit(page);
    const [before, after] = [await page.locator("#before").boundingBox(), await page.locator("#after").boundingBox()];
    assert.ok(Math.abs(after.width / before.width - 1.5) < 0.01, `${after.width} of ${before.width}`);
    assert.ok(Math.abs(before.x - after.x - before.width / 4) < 1, "the photo is in its place");
    await page.waitForTimeout(900);
    await shot(page, "outpaint-light");
    await accessible(page, "extend");
    await page.locator("#history .opener").nth(1).click();
    await page.waitForFunction(() => document.querySelector('input[value="inpaint"]').checked);
    await page.locator("#history .opener").nth(2).click();
    await page.waitForFunction(() => document.querySelector('input[value="outpaint"]').checked);
    await page.locator("#further").click();
    await page.locator("#result").waitFor({ state: "hidden" });
    const photo = await page.locator("#before").boundingBox();
    assert.ok(Math.abs(photo.width / photo.height - 1.5) < 0.01, "an extended photo is a new photo");
    await page.locator("#instruction").fill("make the red car blue");
    await page.locator('.segments label:has(input[value="edit"])').click();
    await edit(page);
  });
}

if (!server) {
  await step("chooses among models, and goes back to that of an edit", {}, async (page) => {
    const { models } = await (await fetch(`${base}api/model`)).json();
    assert.ok(models.length > 1, "the server was started with several models: see scripts/page.sh");
    await edited(page);
    assert.equal(await page.locator("#models").inputValue(), models[0]);
    await accessible(page, "models");
    await page.locator("#models").selectOption(models[1]);
    await page.waitForResponse((response) => response.url().includes("/api/plan"));
    await edit(page);
    assert.equal(await page.locator("#history .opener").count(), 3);
    await page.locator("#history .opener").nth(1).click();
    await page.waitForFunction((name) => document.getElementById("models").value === name, models[0]);
  });
}

await step("downloads and code to copy", {}, async (page) => {
  await edited(page);
  const { name, bytes } = await file(page, "save-png");
  assert.equal(name, "scene-edited.png");
  assert.ok(bytes.includes("iTXteditmgt"), "the PNG has its record");
  await page.locator("#result summary").click();
  assert.equal(JSON.parse((await file(page, "save-record")).bytes).request.instruction, "make the red car blue");
  assert.ok(JSON.parse((await file(page, "save-report")).bytes).pixels_kept > 0.5);
  assert.equal((await file(page, "save-map")).bytes.subarray(1, 4).toString(), "PNG");
  assert.ok(!(await page.locator("#save-mask").isVisible()));
  await page.locator("#copy-command").click();
  await page.locator("#code code", { hasText: "editmgt edit" }).waitFor();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^editmgt edit .*make the red car blue/);
  await page.locator("#copy-rust").click();
  await page.locator("#code code", { hasText: "EditRequest" }).waitFor();
  await shot(page, "code-light");
});

await step("answers words that the model does not know", {}, async (page) => {
  page.expected.add(400);
  await example(page);
  await page.locator("#instruction").fill("make the Zeppelin! blue");
  await page.locator("#plan", { hasText: "doesn’t know “zeppelin”" }).or(page.locator("#plan", { hasText: "doesn’t know “Zeppelin" })).waitFor();
  await page.locator("#go").click();
  await page.locator("#answer").waitFor();
  assert.match(await text(page, "answer-title"), /doesn’t know “zeppelin/i);
  assert.equal(await page.evaluate(() => document.activeElement.id), "answer-title");
  await shot(page, "unknown-light");
  await accessible(page, "answer");
  await page.locator("#answer-words .chip", { hasText: /^car$/ }).click();
  assert.equal(await page.locator("#instruction").inputValue(), "make the car blue");
  await page.locator("#instruction").fill("");
  await page.locator("#suggestions .chip").first().click();
  await page.locator("#plan", { hasText: "Works at" }).waitFor();
  await edit(page);
});

await step("options come from the table, and errors stand at their option", {}, async (page) => {
  page.expected.add(400);
  const { options } = await (await fetch(`${base}api/model`)).json();
  await example(page);
  await page.locator("#options-panel summary").click();
  const shown = options.filter(({ kind, name }) => !["hold", "keyword", "task"].includes(kind) && name !== "variation");
  assert.equal(await page.locator("#options .option").count(), shown.length);
  for (const option of shown) assert.ok((await page.locator(`#option-${option.name}-doc`).textContent()).length > 5, option.name);
  await page.locator("#option-steps").fill("0");
  await page.locator("#option-steps-error", { hasText: "steps: expected 1 to" }).waitFor();
  assert.equal(await page.locator("#option-steps").getAttribute("aria-invalid"), "true");
  await page.locator("#options-panel").scrollIntoViewIfNeeded();
  await shot(page, "options-light");
  await accessible(page, "options");
  await page.locator("#options-reset").click();
  await page.locator("#plan", { hasText: "Works at" }).waitFor();
  assert.equal(await text(page, "option-steps-error"), "");
});

await step("takes a photo that is chosen, dropped or pasted; refuses what is none", {}, async (page) => {
  page.expected.add(400);
  const photo = encode({ width: 120, height: 64, rgb: Buffer.alloc(3 * 120 * 64, 90) });
  await page.locator("#file").setInputFiles({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no photo") });
  await page.waitForFunction(() => document.getElementById("welcome-message").textContent.length > 10);
  await page.locator("#file").setInputFiles({ name: "grey.png", mimeType: "image/png", buffer: photo });
  await page.locator("#editor").waitFor();
  assert.ok(Math.abs((await page.locator("#before").boundingBox()).width / (await page.locator("#before").boundingBox()).height - 120 / 64) < 0.01);
  for (const kind of ["drop", "paste"]) {
    await page.locator("#new-photo").click();
    await page.locator("#welcome").waitFor();
    await page.evaluate(([event, base64]) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], "photo.png", { type: "image/png" }));
      document.dispatchEvent(event === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true })
        : new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
    }, [kind, photo.toString("base64")]);
    await page.locator("#editor").waitFor();
  }
});

await step("by keyboard: an edit, the slider, the brush", { reducedMotion: "reduce" }, async (page) => {
  await page.locator(".example img[src]").first().waitFor();
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.name);
  const visible = () => page.evaluate(() => {
    const style = (element) => getComputedStyle(element);
    const element = document.activeElement;
    const shown = [element, element.nextElementSibling, element.querySelector(".knob")].filter(Boolean);
    return shown.some((one) => style(one).outlineStyle !== "none" && parseFloat(style(one).outlineWidth) > 0);
  });
  const tabTo = async (wanted, key = "Tab") => {
    for (let i = 0; i < 60; i += 1) {
      if ((await focused()) === wanted) return;
      await page.keyboard.press(key);
      assert.ok(await visible(), `the focus is seen at ${await focused()}`);
    }
    assert.fail(`${wanted} can't be reached`);
  };
  await tabTo("example");
  await page.keyboard.press("Enter");
  await page.locator("#editor").waitFor();
  assert.equal(await focused(), "instruction", "the next thing to do has the focus");
  await run(page, () => page.keyboard.press("Enter"));
  assert.equal(await page.locator("#split").getAttribute("aria-valuenow"), "0", "with reduced motion nothing is wiped");
  await tabTo("split", "Shift+Tab");
  for (let i = 0; i < 5; i += 1) await page.keyboard.press("ArrowRight");
  assert.equal(await page.locator("#split").getAttribute("aria-valuenow"), "10");
  await tabTo("where");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowRight");
  assert.ok(await page.locator('input[value="brush"]').isChecked());
  await tabTo("stage", "Shift+Tab");
  await page.keyboard.press("Space");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Space");
  assert.ok(await page.locator("#mask-save").isEnabled());
  await shot(page, "keyboard-light");
  await tabTo("instruction");
  await setOption(page, "steps", "200");
  await page.locator("#instruction").focus();
  await run(page, async () => {
    await page.keyboard.press("Enter");
    await page.locator("#stop").waitFor();
    await tabTo("stop");
    await page.keyboard.press("Enter");
  });
  assert.equal(await focused(), "go", "the focus is not lost");
});

await step("in the dark", { colorScheme: "dark" }, async (page) => {
  await page.locator(".example img[src]").first().waitFor();
  await accessible(page, "welcome, dark");
  await shot(page, "welcome-dark");
  await edited(page);
  await slide(page, "threshold", [30]);
  await page.waitForTimeout(900);
  await page.locator("#result summary").click();
  await page.locator("#copy-command").click();
  await page.locator("#code").waitFor();
  await accessible(page, "result, dark");
  await shot(page, "result-dark");
});

for (const scheme of ["light", "dark"]) {
  await step(`on a phone, ${scheme}`, { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: scheme }, async (page) => {
    await page.locator(".example img[src]").first().waitFor();
    await fits(page, "welcome");
    await shot(page, `phone-welcome-${scheme}`);
    await example(page);
    await fits(page, "photo");
    await run(page, () => page.locator("#go").tap());
    await page.waitForTimeout(900);
    await page.locator("#options-panel summary").tap();
    await page.locator("#result summary").tap();
    await fits(page, "result");
    await accessible(page, "phone");
    await page.evaluate(() => scrollTo(0, 0));
    await shot(page, `phone-result-${scheme}`);
    await shot(page, `phone-whole-${scheme}`, { fullPage: true });
  });
}

await step("in a window of 320 pixels, as with large text", { viewport: { width: 320, height: 640 } }, async (page) => {
  await page.locator(".example img[src]").first().waitFor();
  await fits(page, "welcome");
  await edited(page);
  for (const where of ["word", "brush", "both"]) {
    await page.locator(`.segments label:has(input[value="${where}"])`).click();
    await fits(page, where);
  }
  await page.locator("#result summary").click();
  await page.locator("#options-panel summary").click();
  await page.locator("#copy-command").click();
  await page.locator("#code code", { hasText: "editmgt edit" }).waitFor();
  await fits(page, "everything open");
  await shot(page, "narrow-light", { fullPage: true });
});

if (server) {
  await step("waits its turn, and follows an edit whose stream breaks", {}, async (page) => {
    const other = await open();
    await example(other);
    await setOption(other, "steps", "12");
    await other.locator("#go").click();
    await other.locator("#stop").waitFor();
    await example(page);
    await run(page, async () => {
      await page.locator("#go").click();
      await progress(page, /^Waiting for 1 edit/);
      await shot(page, "queue-light");
      server.closeAllConnections();
    });
    await other.locator("#result").waitFor();
    assert.match(await text(page, "result-title"), /own bytes/);
    assert.deepEqual(other.faults, []);
    await other.context().close();
  });

  await step("asks for the token, or takes it from the link", {}, async (page) => {
    page.expected.add(401);
    const locked = await mock(0, "secret");
    const url = `http://127.0.0.1:${locked.address().port}/`;
    await page.goto(url);
    await page.locator("#token-dialog[open]").waitFor();
    await shot(page, "token-light");
    await accessible(page, "token");
    await page.locator("#token").fill("wrong");
    await page.keyboard.press("Enter");
    await page.locator("#token-dialog[open]").waitFor();
    await page.locator("#token").fill("secret");
    await page.keyboard.press("Enter");
    await edited(page);
    const linked = await open({}, `${url}#token=secret`);
    await edited(linked);
    assert.equal(new URL(linked.url()).hash, "");
    assert.deepEqual(linked.faults, []);
    await linked.context().close();
    locked.closeAllConnections();
    locked.close();
  });
}

await end();
