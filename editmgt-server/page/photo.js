// Where photos come from: dropped, pasted, chosen, or an example of the server.

import { blob, forgetImages, get, upload } from "./api.js";
import { announce, byId, make } from "./dom.js";
import { showLayers } from "./overlay.js";
import { changed, state } from "./state.js";
import { fit, showSize } from "./view.js";

/** Sends a file and makes it the photo. */
async function take(file, name) {
  const message = byId(state.photo ? "message" : "welcome-message");
  message.textContent = "";
  byId("welcome").setAttribute("aria-busy", "true");
  try {
    open(await upload(`/api/photos?name=${encodeURIComponent(name)}`, file));
  } catch (error) {
    message.textContent = error.message;
  }
  byId("welcome").removeAttribute("aria-busy");
}

/** Shows a photo of the server, with its edits so far. */
function open(photo) {
  forgetImages();
  sessionStorage.setItem("photo", photo.id);
  Object.assign(state, { photo, base: null, edit: null, edits: new Map(photo.edits.map((edit) => [edit.id, edit])) });
  byId("welcome").hidden = true;
  byId("editor").hidden = false;
  byId("new-photo").hidden = false;
  showSize(photo.width, photo.height);
  fit();
  showLayers({ scores: false, region: false });
  changed("photo");
  changed("edits");
  changed("request");
  byId("photo-notes").replaceChildren(...photo.notes.map((note) => make("li", { textContent: note })));
  announce(`Photo of ${photo.width} by ${photo.height} pixels. Type what to change.`);
  byId("instruction").focus({ preventScroll: true });
}

/** Makes the result of an edit the photo. */
export async function openResult(edit, name) {
  await take(await blob(`/api/edits/${edit.id}/result`), name);
}

export function welcome() {
  byId("editor").hidden = byId("new-photo").hidden = true;
  byId("welcome").hidden = false;
  sessionStorage.removeItem("photo");
  byId("choose").focus();
}

async function showExamples() {
  const examples = await get("/api/examples");
  byId("examples-part").hidden = examples.length === 0;
  byId("examples").replaceChildren(...examples.map(({ id, instruction }) => {
    const picture = make("img", { alt: "" });
    const data = blob(`/api/examples/${id}`);
    data.then((file) => (picture.src = URL.createObjectURL(file)), () => {});
    const onclick = async () => {
      byId("instruction").value = instruction;
      await take(await data, `${id}.png`);
    };
    return make("li", {}, make("button", { type: "button", className: "example", onclick }, picture,
      make("span", { textContent: instruction })));
  }));
}

const fileOf = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/") || file.type === "");

export async function startPhoto() {
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("new-photo").addEventListener("click", () => !state.running && welcome());
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files[0]) take(target.files[0], target.files[0].name);
    target.value = "";
  });
  document.addEventListener("paste", (event) => {
    const file = fileOf(event.clipboardData);
    if (file && !state.running) take(file, file.name);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = fileOf(event.dataTransfer);
    if (file && !state.running) take(file, file.name);
  });
  await showExamples();
  // The photo and its history are still there after the page is loaded again.
  const last = sessionStorage.getItem("photo");
  if (last) await get(`/api/photos/${last}`).then(open, () => sessionStorage.removeItem("photo"));
}
