// What holds for the whole story: its name, who plays, memory, the author's note, its lore.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { Growing } from "./editor.js";
import { change } from "./stories.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").FileOf} FileOf */

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
    <label class="inline">Messages after the note
      <input type="number" min="0" max="9999" value=${note.depth}
        onChange=${(/** @type {any} */ { target }) => change((story) => ({ note: { ...story.note, depth: Number(target.value) } }))} /></label>
    <${Field} label="System" hint="How the model is to write." value=${story.system}
      onKeep=${(/** @type {string} */ system) => change(() => ({ system }))} />
    <${Choice} label="Characters" all=${state.cards} chosen=${story.cards} onKeep=${(/** @type {string[]} */ cards) => change(() => ({ cards }))} />
    <${Choice} label="Lorebooks" all=${state.lorebooks} chosen=${story.lorebooks}
      onKeep=${(/** @type {string[]} */ lorebooks) => change(() => ({ lorebooks }))} />
  `;
}

/**
 * A text that is kept when one leaves it.
 * @param {{label: string, value: string, onKeep: (text: string) => void, hint?: string, isLine?: boolean}} props
 */
export function Field({ label, value, onKeep, hint, isLine }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const keep = () => text !== value && onKeep(text);
  return html`
    <div class="field">
      <span class="label" aria-hidden="true">${label}</span>
      ${isLine
        ? html`<input type="text" aria-label=${label} value=${text} onBlur=${keep}
            onKeyDown=${(/** @type {any} */ event) => event.key === "Enter" && event.target.blur()}
            onInput=${(/** @type {any} */ event) => setText(event.target.value)} />`
        : html`<${Growing} label=${label} value=${text} onInput=${setText} onBlur=${keep} />`}
      ${hint && html`<small>${hint}</small>`}
    </div>
  `;
}

/**
 * Which of the library's files belong to a story; what it has from elsewhere is listed, too.
 * @param {{label: string, all: FileOf[], chosen: FileOf[], onKeep: (ids: string[]) => void}} props
 */
export function Choice({ label, all, chosen, onKeep }) {
  const others = chosen.filter((one) => !all.some((known) => known.id === one.id));
  const ids = chosen.map((one) => one.id);
  const toggle = (/** @type {string} */ id) =>
    onKeep(ids.includes(id) ? ids.filter((one) => one !== id) : [...ids, id]);
  return html`
    <fieldset><legend>${label}</legend>
      ${[...others, ...all].map((one) => html`
        <label class="check" key=${one.id}>
          <input type="checkbox" checked=${ids.includes(one.id)} onChange=${() => toggle(one.id)} /> ${one.name}</label>`)}
      ${!others.length && !all.length && html`<small>None in the library. Drop files anywhere on the page.</small>`}
    </fieldset>
  `;
}
