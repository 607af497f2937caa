// Files and texts that leave the page: downloads and the clipboard.

import { announce, byId, make } from "./dom.js";

export function saveBlob(data, name) {
  const url = URL.createObjectURL(data);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
  } catch {
    // Without a permission for the clipboard: the text is shown below, selected.
    announce(`${what} is shown below`);
  }
  const shown = byId("code");
  shown.hidden = false;
  shown.querySelector("code").textContent = text;
  getSelection().selectAllChildren(shown.querySelector("code"));
}
