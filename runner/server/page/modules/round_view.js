// Two answers to one turn, side by side and unnamed, and the choice between them.

import { html, useEffect, useRef } from "../vendor/htm-preact.js";
import { choose, discard } from "./blind.js";
import { Text } from "./message_view.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Round} Round */
/** @typedef {import("./types.js").Message} Message */

/** The story as the round's answers continue it. @param {Message[]} messages @param {Round} round @param {string} user */
export function before(messages, { question, index }, user) {
  if (!question) return messages.slice(0, index);
  /** @type {Message} */
  const asked = {
    role: "user", name: user, text: question, date: "", swipes: [question], swipe: 0, branches: [],
  };
  return [...messages.slice(0, index - 1), asked];
}

/** @param {{round: Round}} props */
export function RoundView({ round }) {
  const section = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    section.current?.focus({ preventScroll: true });
    section.current?.scrollIntoView({ block: "start" });
  }, [round.id]);
  return html`
    <section class="round" ref=${section} tabindex="-1" aria-label="Two answers: which is better?">
      ${round.answers.map((text, n) => html`
        <article class="message assistant" key=${n} aria-label="Answer ${"AB"[n]}">
          <header><h3>${round.speaker || "Answer"} <b>${"AB"[n]}</b></h3></header>
          <${Text} text=${text || "(no words)"} />
        </article>`)}
    </section>
  `;
}

/** In the composer's place. @param {{state: State, round: Round}} props */
export function ChoiceBar({ state, round }) {
  const isSame = round.answers[0] === round.answers[1];
  return html`
    <div class="composer choice" role="group" aria-label="Your choice">
      <p class="small">${isSame ? "Both wrote the same." : "Which answer is better?"} <${Count} state=${state} /></p>
      <div class="actions">
        ${isSame
          ? html`<button class="primary" onClick=${() => void choose("equal")}>Continue with it</button>`
          : html`
            <button class="primary" onClick=${() => void choose("first")}>A is better</button>
            <button onClick=${() => void choose("equal")} title="A stays; B is its swipe">Equal</button>
            <button class="primary" onClick=${() => void choose("second")}>B is better</button>`}
        <button class="quiet" onClick=${() => void discard()} title="No choice is counted">Discard both</button>
      </div>
    </div>
  `;
}

/** @param {{state: State}} props */
export function Count({ state: { desk, goal } }) {
  const choices = desk?.choices ?? 0;
  return html`<span>${choices < goal ? `${choices} of ${goal} choices` : `${choices} choices`}</span>`;
}
