// What can be done with stories as a whole: listed, opened, begun, changed, branched, imported.

import { download, request, storyPath, upload } from "./api.js";
import { attempt, inTurn, notice } from "./notices.js";
import { now, set } from "./store.js";

/** @typedef {import("./types.js").Story} Story */
/** @typedef {import("./types.js").View} View */

/** @type {View[]} */
const VIEWS = ["write", "notebook", "read", "tree"];

/** Load what the page knows of the server. Answers whether the server let it. */
export async function loadDesk() {
  const desk = await attempt(() => request("GET", "/api/desk"));
  if (!desk) return false;
  set({ desk });
  document.title = `${desk.model} · franken-gguf`;
  return true;
}

export async function loadStories() {
  const found = await attempt(() => request("GET", "/api/stories"));
  if (found) set({ stories: found.stories });
}

export async function loadLibrary() {
  const found = await attempt(() =>
    Promise.all([request("GET", "/api/cards"), request("GET", "/api/lorebooks")]),
  );
  if (found) set({ cards: found[0].cards, lorebooks: found[1].lorebooks });
}

/** Show a story as it now is. @param {Story} story */
export function show(story) {
  if (now().story?.name !== story.name) set({ figures: null, finish: "", prompt: null });
  set({ story });
}

/** Open a story, in the browser's history, too. @param {string} name @param {View} [view] */
export function open(name, view = "write") {
  location.hash = `/${encodeURIComponent(name)}${view === "write" ? "" : `/${view}`}`;
}

/** Load the story and the view that the address names. */
export async function followAddress() {
  const [, name = "", wanted = ""] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const view = VIEWS.find((one) => one === wanted) ?? "write";
  set({ view, listIsOpen: false });
  if (!name) set({ story: null });
  else if (now().story?.name !== name) await load(name);
}

/** @param {string} name */
export async function load(name) {
  const story = await attempt(() => request("GET", storyPath(name)));
  if (!story) return;
  show(story);
  if (typeof now().desk?.choices === "number") await loadRound(name);
  if (now().stories.length && !now().stories.some((one) => one.name === story.name)) await loadStories();
}

/** Load the two answers of a story that wait for a choice. @param {string} name */
async function loadRound(name) {
  const found = await attempt(() => request("GET", storyPath(name, "round")));
  if (found && now().story?.name === name) set({ round: found.round && { ...found.round, story: name } });
}

/** Begin a story and open it. @param {object} wish the body of `POST /api/stories` */
export async function begin(wish) {
  const story = await attempt(() => request("POST", "/api/stories", wish));
  if (story) await opened(story);
  return Boolean(story);
}

/** Change what a wish, the body of the PATCH, names of the open story. @param {(story: Story) => object} wish */
export const change = (wish) => inTurn(() => changeNow(wish));

/** @param {(story: Story) => object} wish */
async function changeNow(wish) {
  const { story } = now();
  if (!story) return;
  const changed = await attempt(() => request("PATCH", storyPath(story.name), wish(story)));
  if (!changed) return void load(story.name);
  if (changed.name === story.name) show(changed);
  else await opened(changed);
}

/** @param {string} name */
export async function remove(name) {
  const gone = await attempt(async () => {
    await request("DELETE", storyPath(name));
    return true;
  });
  if (!gone) return;
  if (now().story?.name === name) location.hash = "";
  await loadStories();
  notice(`“${name}” is deleted.`);
}

/** Go on in a copy that ends with message `at`. @param {number} at */
export async function branch(at) {
  const { story } = now();
  if (!story) return;
  const copy = await attempt(() => request("POST", storyPath(story.name, "branch"), { at }));
  if (!copy) return;
  await opened(copy);
  notice(`“${story.name}” stays as it is; you are now in “${copy.name}”.`);
}

/** Add a chat of SillyTavern. @param {File} file */
export async function importStory(file) {
  const name = file.name.replace(/\.jsonl$/iu, "");
  const path = `/api/stories/import?name=${encodeURIComponent(name)}`;
  const story = await attempt(() => upload(path, file));
  if (story) await opened(story);
}

/** The story's file in a form of the server. @param {string} form */
export async function exported(form) {
  const { story } = now();
  if (!story) return undefined;
  return attempt(() => download(`${storyPath(story.name, "export")}?form=${form}`));
}

/** @param {Story} story */
async function opened(story) {
  set({ figures: null, finish: "", prompt: null, story, view: "write", dialog: "" });
  open(story.name);
  await loadStories();
  const field = document.querySelector(".composer textarea");
  if (field instanceof HTMLElement) field.focus();
}
