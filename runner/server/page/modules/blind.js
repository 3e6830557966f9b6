// Blind comparison: which of two models' answers is better, and what came of all choices.

import { request, storyPath } from "./api.js";
import { remember } from "./memory.js";
import { attempt } from "./notices.js";
import { now, set } from "./store.js";
import { load, show } from "./stories.js";

/** Let two models answer each turn, or one again. @param {boolean} isBlind */
export function turnBlind(isBlind) {
  remember("isBlind", isBlind);
  set({ isBlind });
}

/** How many choices come before the result. @param {number} goal */
export function setGoal(goal) {
  remember("goal", goal);
  set({ goal });
}

/** Make the open round's choice: the story goes on with it. @param {"first" | "second" | "equal"} choice */
export async function choose(choice) {
  const { round, story, desk, goal } = now();
  if (!round || !desk || round.story !== story?.name) return;
  set({ round: null });
  const body = { id: round.id, choice };
  const found = await attempt(() => request("POST", storyPath(round.story, "round/choice"), body));
  if (!found) return void load(round.story);
  set({ desk: { ...desk, choices: found.choices }, preference: null });
  show(found.story);
  if (found.choices % goal === 0) await look();
  else focusComposer();
}

/** Drop both answers; the question can be asked again. */
export async function discard() {
  const { round } = now();
  if (!round) return;
  await attempt(() => request("DELETE", storyPath(round.story, "round")));
  set({ draft: round.question });
  await load(round.story);
  focusComposer();
}

/** Show which model was preferred. */
export async function look() {
  const preference = await attempt(() => request("GET", "/api/preference"));
  if (preference) set({ preference, panel: "blind" });
}

function focusComposer() {
  requestAnimationFrame(() => {
    const field = document.querySelector(".composer textarea");
    if (field instanceof HTMLElement) field.focus();
  });
}
