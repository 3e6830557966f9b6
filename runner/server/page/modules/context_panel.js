// What the model reads before it writes: how much of the context each part takes, and why it is there.

import { html, useEffect } from "../vendor/htm-preact.js";
import { request, storyPath } from "./api.js";
import { thousands } from "./figures.js";
import { attempt } from "./notices.js";
import { now, set } from "./store.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Prompt} Prompt */
/** @typedef {import("./types.js").Insert} Insert */

/** @type {Record<string, string>} */
const LABELS = { system: "system text, characters, memory", message: "messages", template: "the template's own words" };

/** @param {{state: State}} props */
export function ContextPanel({ state }) {
  const { story, prompt, answering } = state;
  useEffect(() => {
    if (!story || answering) return;
    void attempt(() => request("GET", storyPath(story.name, "prompt"))).then((found) => {
      if (found && now().story?.name === story.name) set({ prompt: found });
    });
  }, [story?.revision, story?.name, answering === null]);
  if (!prompt) return html`<p class="hint">One moment…</p>`;
  return html`
    <p><b>${thousands(prompt.tokens)}</b> of ${thousands(prompt.n_ctx)} tokens</p>
    <${Bar} prompt=${prompt} />
    ${prompt.dropped > 0 && html`<p class="remark">The first ${prompt.dropped} messages have left the context.</p>`}
    <${Inserts} inserts=${prompt.inserts} />
    <h3>Part by part</h3>
    <ol class="parts">${prompt.parts.map((part, n) => html`
      <li key=${n} class="kind-${part.kind}"><details>
        <summary><span>${part.text.trim().slice(0, 60) || "…"}</span> <small>${part.tokens}</small></summary>
        <pre>${part.text}</pre></details></li>`)}</ol>
  `;
}

/** @param {{prompt: Prompt}} props */
function Bar({ prompt }) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { kind, tokens } of prompt.parts) sums.set(kind, (sums.get(kind) ?? 0) + tokens);
  const widths = [...sums].map(([kind, tokens]) => ({ kind, tokens, share: (100 * tokens) / prompt.n_ctx }));
  return html`
    <div class="context-bar" aria-hidden="true">${widths.map(({ kind, share }) => html`
      <i class="kind-${kind}" style=${{ width: `${share}%` }}></i>`)}</div>
    <ul class="legend">${widths.map(({ kind, tokens }) => html`
      <li class="kind-${kind}">${LABELS[kind] ?? kind}: ${thousands(tokens)}</li>`)}
      <li>free: ${thousands(Math.max(prompt.n_ctx - prompt.tokens, 0))}</li></ul>
  `;
}

/** What stands beside the messages, with the reasons. @param {{inserts: Insert[]}} props */
function Inserts({ inserts }) {
  if (!inserts.length) return null;
  return html`
    <h3>What the story adds, and why</h3>
    <ul class="parts">${inserts.map((one, n) => html`
      <li key=${n} class=${one.is_active ? "" : "inactive"}><details>
        <summary><span><b>${one.name}</b> ${one.why}</span> <small>${one.is_active ? one.tokens : "not read"}</small></summary>
        <pre>${one.text}</pre></details></li>`)}</ul>
  `;
}
