// How full the context is, and what the last answer took.

import { html } from "../vendor/htm-preact.js";
import { set } from "./store.js";

/** @typedef {import("./types.js").State} State */

/** @type {Record<string, string>} */
const ENDS = { length: "stopped at the limit", context: "the context is full", interrupted: "stopped" };

/** @param {{state: State}} props */
export function FiguresLine({ state }) {
  const { figures, finish, desk } = state;
  if (!figures || !desk) return null;
  const used = figures.prompt_tokens + figures.tokens;
  const parts = [
    `${figures.tokens} tokens, ${figures.tokens_per_second.toFixed(1)} tokens/s`,
    figures.prompt_reused && `${figures.prompt_evaluated} of ${figures.prompt_tokens} tokens evaluated`,
    figures.rewound && `${figures.rewound} tokens rewound`,
    ENDS[finish],
  ];
  return html`
    <div class="figures">
      <button class="quiet" onClick=${() => set({ panel: "context" })} title="What the model reads, and why">
        <i class="meter" aria-hidden="true"><i style=${{ width: `${(100 * used) / figures.n_ctx}%` }}></i></i>
        ${thousands(used)} of ${thousands(figures.n_ctx)}</button>
      <span>${parts.filter(Boolean).join(" · ")}</span>
    </div>
  `;
}

/** @param {number} n */
export const thousands = (n) => n.toLocaleString("en");
