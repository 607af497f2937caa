// The model that edits; a server can have several.

import { get } from "./api.js";
import { byId, make } from "./dom.js";
import { changed, state } from "./state.js";

/** Uses the model of this name from now on. */
export async function useModel(name) {
  if (name === state.model.name) return;
  state.model = await get(`/api/model?model=${encodeURIComponent(name)}`);
  show();
  changed("model");
  changed("request");
}

function show() {
  const { name, device, models } = state.model;
  const several = models.length > 1;
  byId("model").textContent = several ? device : `${name} · ${device}`;
  byId("models").hidden = !several;
  byId("models").value = name;
}

/** The key `model` of a request; none where there is no choice. */
export const modelKey = () => (state.model.models.length > 1 ? { model: state.model.name } : {});

export function startModels() {
  byId("models").replaceChildren(...state.model.models.map((name) => make("option", { value: name, textContent: name })));
  byId("models").addEventListener("change", async ({ target }) => {
    try {
      await useModel(target.value);
    } catch (error) {
      byId(state.photo ? "message" : "welcome-message").textContent = error.message;
      show();
    }
  });
  show();
}
