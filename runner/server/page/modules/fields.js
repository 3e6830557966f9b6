// Fields whose value is kept when one leaves them, whatever the page shows meanwhile.

import { html, useLayoutEffect, useState } from "../vendor/htm-preact.js";
import { Growing } from "./editor.js";

/** @typedef {import("./types.js").FileOf} FileOf */

/**
 * A text that is kept when one leaves it.
 * @param {{label: string, value: string, onKeep: (text: string) => void, hint?: string, isLine?: boolean}} props
 */
export function Field({ label, value, onKeep, hint, isLine }) {
  const [text, setText] = useState(value);
  useLayoutEffect(() => setText(value), [value]);
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

/**
 * A number that is kept if it is in its range.
 * @param {{label: string, value: number, onKeep: (value: number) => void, low: number | null,
 *   high: number | null, isWhole?: boolean, about?: string, id?: string}} props
 */
export function NumberField({ label, value, onKeep, low, high, isWhole, about, id }) {
  const [text, setText] = useState(String(value));
  useLayoutEffect(() => setText(String(value)), [value]);
  const keep = (/** @type {any} */ { target }) => {
    if (text === "" || !target.checkValidity()) target.reportValidity();
    else if (Number(text) !== value) onKeep(Number(text));
  };
  const input = html`
    <input type="number" id=${id} value=${text} min=${low} max=${high} step=${isWhole ? 1 : "any"}
      required aria-describedby=${about} onChange=${keep}
      onInput=${(/** @type {any} */ { target }) => setText(target.value)} />`;
  return id ? input : html`<label class="inline">${label} ${input}</label>`;
}
