// The panel of the blind comparison: on or off, how many choices, and what they say.

import { html } from "../vendor/htm-preact.js";
import { look, setGoal, turnBlind } from "./blind.js";
import { NumberField } from "./fields.js";
import { Count } from "./round_view.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Preference} Preference */

/** @param {{state: State}} props */
export function BlindPanel({ state }) {
  const { isBlind, goal, preference, desk } = state;
  const choices = desk?.choices ?? 0;
  return html`
    <label class="check"><input type="checkbox" checked=${isBlind} onChange=${() => turnBlind(!isBlind)} />
      Two models answer each turn</label>
    <p class="small about">They are unnamed, and their order is random. The answer that you choose is the
      story's turn, the other a swipe. The server keeps your choices, without a word of the story.</p>
    <p class="actions"><b><${Count} state=${state} /></b>
      <button disabled=${!choices} onClick=${() => void look()}>${choices < goal ? "Look early" : "Show the result"}</button></p>
    <${NumberField} label="Choices before the result" value=${goal} low=${1} high=${10000} isWhole onKeep=${setGoal} />
    <div role="status">${preference && html`<${Result} found=${preference} goal=${goal} />`}</div>
  `;
}

/** @param {{found: Preference, goal: number}} props */
function Result({ found, goal }) {
  const { models: [first, second], share, low, high } = found;
  const isFirst = first.chosen >= second.chosen;
  const [better, worse] = isFirst ? [first, second] : [second, first];
  const [value, from, to] = isFirst ? [share, low, high] : [1 - share, 1 - high, 1 - low];
  const decided = first.chosen + second.chosen;
  return html`
    <section class="result" aria-label="The result">
      <p>${better.chosen === worse.chosen
        ? html`<b>${first.name}</b> and <b>${second.name}</b> were chosen equally often: ${first.chosen} times each.`
        : html`<b>${better.name}</b> was preferred to <b>${worse.name}</b> in ${better.chosen} of ${decided} choices.`}
        ${found.equal > 0 && ` In ${found.equal} more, neither was better.`}</p>
      <p class="interval" aria-hidden="true"><i style=${{ left: `${100 * from}%`, width: `${100 * (to - from)}%` }}></i>
        <b style=${{ left: `calc(${100 * value}% - ${2 * value}px)` }}></b></p>
      <p>${percent(value)} for ${better.name}, 95 % interval ${percent(from)} to ${percent(to)}.
        <b> ${found.is_beyond_chance ? "That is more than chance explains" : "Chance could explain that"}</b>${" "}
        (p = ${found.p_value < 0.001 ? "less than 0.001" : found.p_value.toPrecision(2)}).</p>
      ${found.choices < goal && html`<p class="small">You looked early. Whoever stops as soon as the result pleases
        takes chance for a preference more often.</p>`}
      <p class="small">franken-gguf compare shows these choices beside its measurements.</p>
    </section>
  `;
}

/** @param {number} share */
const percent = (share) => `${Math.round(100 * share)} %`;
