// The branches of a story as a tree: where each left its parent, and how it goes on from there.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { request, storyPath } from "./api.js";
import { attempt } from "./notices.js";
import { open } from "./stories.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Story} Story */
/** @typedef {{name: string, depth: number, messages: number, shared: number, words: string}} Branch */

const MOST = 50; // stories that are read for their words
const LENGTH = 160;

/** @param {{state: State}} props */
export function TreeView({ state }) {
  const { story } = state;
  const [branches, setBranches] = useState(/** @type {Branch[] | null} */ (null));
  useEffect(() => {
    if (story) void attempt(() => readTree(story)).then((found) => found && setBranches(found));
  }, [story?.revision, story?.name]);
  if (!story) return null;
  const shown = branches ?? story.tree.map((one) => ({ ...one, messages: 0, shared: 0, words: "" }));
  return html`
    <div class="scroll"><div class="page">
      <h2>Branches</h2>
      ${shown.length < 2 && html`<p class="hint">This story has no branches yet.
        “Branch” below a message continues from there in a copy.</p>`}
      <ol class="tree">${shown.map((one) => html`
        <li key=${one.name} class="depth-${Math.min(one.depth, 6)}">
          <button aria-current=${one.name === story.name ? "true" : null} onClick=${() => open(one.name)}>
            <b>${one.name}</b>
            ${one.messages > 0 && html`<small>${one.messages} messages${one.depth > 0 && one.shared > 0
              ? `, the first ${one.shared} shared` : ""}</small>`}
            ${one.words && html`<span>${one.words}</span>`}
          </button>
        </li>`)}</ol>
    </div></div>
  `;
}

/** What the tree shows of each story: how much it shares with its parent, and its own first words. @param {Story} story */
async function readTree(story) {
  /** @type {Branch[]} */
  const found = [];
  /** @type {Story[]} */
  const path = [];
  for (const { name, depth } of story.tree.slice(0, MOST)) {
    const one = name === story.name ? story : await request("GET", storyPath(name));
    path.length = depth;
    const shared = path.length ? sharedMessages(path[depth - 1], one) : 0;
    path.push(one);
    const text = (one.messages[shared] ?? one.messages.at(-1))?.text ?? "";
    const words = text.length > LENGTH ? `${text.slice(0, LENGTH)}…` : text;
    found.push({ name, depth, messages: one.messages.length, shared, words });
  }
  return found;
}

/** How many messages two stories begin with in common. @param {Story} one @param {Story} other */
function sharedMessages(one, other) {
  let n = 0;
  while (n < other.messages.length && one.messages[n]?.text === other.messages[n].text) n++;
  return n;
}
