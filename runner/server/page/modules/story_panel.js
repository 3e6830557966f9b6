// What holds for the whole story: its name, who plays, memory, the author's note, its lore.

import { html } from "../vendor/htm-preact.js";
import { Choice, Field, NumberField } from "./fields.js";
import { change } from "./stories.js";

/** @typedef {import("./types.js").State} State */

/** @param {{state: State}} props */
export function StoryPanel({ state }) {
  const { story } = state;
  if (!story) return null;
  const { note } = story;
  return html`
    <${Field} label="Name" value=${story.name} onKeep=${(/** @type {string} */ name) => name.trim() && change(() => ({ name }))} isLine />
    <${Field} label="You are" value=${story.user} onKeep=${(/** @type {string} */ user) => change(() => ({ user }))} isLine />
    <${Field} label="Memory" hint="What the model always keeps in mind." value=${story.memory}
      onKeep=${(/** @type {string} */ memory) => change(() => ({ memory }))} />
    <${Field} label="Author's note" hint="Read shortly before the end, so it weighs much: mood, style, what comes next."
      value=${note.text} onKeep=${(/** @type {string} */ text) => change((story) => ({ note: { ...story.note, text } }))} />
    <${NumberField} label="Messages after the note" value=${note.depth} low=${0} high=${9999} isWhole
      onKeep=${(/** @type {number} */ depth) => change((story) => ({ note: { ...story.note, depth } }))} />
    <${Field} label="System" hint="How the model is to write." value=${story.system}
      onKeep=${(/** @type {string} */ system) => change(() => ({ system }))} />
    <${Choice} label="Characters" all=${state.cards} chosen=${story.cards} onKeep=${(/** @type {string[]} */ cards) => change(() => ({ cards }))} />
    <${Choice} label="Lorebooks" all=${state.lorebooks} chosen=${story.lorebooks}
      onKeep=${(/** @type {string[]} */ lorebooks) => change(() => ({ lorebooks }))} />
  `;
}
