// Requests to the server (API.md is the contract): JSON, images, server-sent events. Everything goes through
// `fetch`, because an <img> and an EventSource can't send the Authorization header.

import { byId } from "./dom.js";

/** An answer of 400 and above: `message`, `code`, `param` and `details` are the server's. */
export class ApiError extends Error {
  constructor(status, { message, code, param, details }) {
    super(message);
    Object.assign(this, { status, code, param, details });
  }
}

// The server prints a link with the token after the #, which browsers don't send.
const fragment = new URLSearchParams(location.hash.slice(1)).get("token");
if (fragment) {
  sessionStorage.setItem("token", fragment);
  history.replaceState(null, "", location.pathname);
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The server does not answer. Is it still running?", code: "offline" });
  }
  if (response.ok) return response;
  if (response.status === 401) {
    await askToken();
    return request(path, options);
  }
  const body = await response.json().catch(() => ({}));
  throw new ApiError(response.status, body.error ?? { message: `The server answered ${response.status}.` });
}

let asking = null;

/** Opens the dialog for the token; requests that wait share it. */
function askToken() {
  const dialog = byId("token-dialog");
  asking ??= new Promise((resolve) => {
    dialog.showModal();
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", byId("token").value);
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}

export const get = async (path) => (await request(path)).json();

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) })).json();
}

export const upload = async (path, blob) => (await request(path, { method: "POST", body: blob })).json();

export const blob = async (path) => (await request(path)).blob();

const urls = new Map();

/** An address of the image at `path` for <img>, fetched once. Kept until `forgetImages`. */
export function image(path) {
  if (!urls.has(path)) {
    const url = blob(path).then((data) => URL.createObjectURL(data));
    url.catch(() => urls.delete(path));
    urls.set(path, url);
  }
  return urls.get(path);
}

export function forgetImages() {
  for (const url of urls.values()) url.then(URL.revokeObjectURL, () => {});
  urls.clear();
}

/** The events of an edit: `{event, data}` each, until the server ends the stream. */
export async function* events(path) {
  const response = await request(path, { headers: { Accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = block.match(/^event: ?(.*)$/m)?.[1];
      const data = block.match(/^data: ?(.*)$/m)?.[1];
      if (event && data) yield { event, data: JSON.parse(data) };
    }
  }
}
