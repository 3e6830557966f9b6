// The page's beginning: load what it needs, then follow the address.

import { html, render } from "../vendor/htm-preact.js";
import { App } from "./app.js";
import { installDrops } from "./drops.js";
import { installKeys } from "./keys.js";
import { now } from "./store.js";
import { followAddress, load, loadDesk, loadLibrary, loadStories } from "./stories.js";
import { applyTheme } from "./theme.js";

/** Load everything anew, also after a key was given. */
export async function begin() {
  if (await loadDesk()) await Promise.all([followAddress(), loadStories(), loadLibrary()]);
}

/** Another window, or a chat at a terminal, may have changed the story. */
function refresh() {
  const { story, answering } = now();
  if (document.hidden || answering || !now().desk) return;
  void loadStories();
  if (story) void load(story.name);
}

applyTheme(now().theme);
installKeys();
installDrops();
addEventListener("hashchange", () => void followAddress());
document.addEventListener("visibilitychange", refresh);
const root = document.getElementById("page");
if (root) render(html`<${App} begin=${begin} />`, root);
void begin();
