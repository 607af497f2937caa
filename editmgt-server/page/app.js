// Starts the page. Read on in this order: state.js (what the page knows), api.js (how it asks the server),
// photo.js, plan.js, run.js, result.js, history.js (a photo's way through the page), where.js with brush.js and overlay.js
// (where it may change), view.js (the stage), task.js, options.js, models.js, answer.js.

import { get } from "./api.js";
import { showSuggestions } from "./answer.js";
import { byId } from "./dom.js";
import { startHistory } from "./history.js";
import { startModels } from "./models.js";
import { startOptions } from "./options.js";
import { startPhoto } from "./photo.js";
import { startPlan } from "./plan.js";
import { startResult } from "./result.js";
import { startRun } from "./run.js";
import { changed, on, state } from "./state.js";
import { startTask } from "./task.js";
import { startWhere } from "./where.js";

async function start() {
  state.model = await get("/api/model");
  startModels();
  startOptions();
  startWhere();
  startTask();
  startPlan();
  startRun();
  startResult();
  startHistory();
  byId("instruction").addEventListener("input", () => changed("request"));
  on("request", showSuggestions);
  await startPhoto();
}

start().catch((error) => {
  byId("welcome-message").textContent = error.message;
});
