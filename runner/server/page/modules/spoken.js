// What a screen reader says of a running answer: each sentence once, when it is complete.

import { html } from "../vendor/htm-preact.js";

const SENTENCE = /[^.!?…\n]+(?:[.!?…]+["”»*)]*|\n+)/gu;

/** The complete sentences of a text. @param {string} text */
export const sentences = (text) =>
  (text.match(SENTENCE) ?? []).map((one) => one.trim()).filter(Boolean);

/** @param {{text: string}} props */
export function Spoken({ text }) {
  return html`
    <div class="spoken" role="log" aria-live="polite" aria-label="The answer, sentence by sentence">
      ${sentences(text).map((one, n) => html`<p key=${n}>${one}</p>`)}
    </div>
  `;
}
