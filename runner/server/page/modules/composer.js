// Where the user's next message is written, and the buttons that let the model write.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { answer, isBlind, stop } from "./answering.js";
import { Growing } from "./editor.js";
import { FiguresLine } from "./figures.js";
import { add } from "./messages.js";
import { Count } from "./round_view.js";
import { set } from "./store.js";

/** @typedef {import("./types.js").State} State */

/** @param {{state: State}} props */
export function Composer({ state }) {
  const { story, answering } = state;
  const [text, setText] = useState(state.draft);
  useEffect(() => set({ draft: "" }), []);
  const [speaker, setSpeaker] = useState("");
  if (!story) return null;
  const last = story.messages.at(-1);
  const options = speaker && story.speakers.includes(speaker) ? { speaker } : {};
  const next = options.speaker ?? story.next_in_turn;
  const send = async () => {
    if (!text.trim() || answering) return;
    setText("");
    if (!(await answer("ask", { text, ...options }))) restore(text, setText);
  };
  const write = () => void (last?.role === "assistant" ? answer("continue") : answer("speak", options));
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    const isSent = event.ctrlKey || !(event.shiftKey || matchMedia("(pointer: coarse)").matches);
    if (!isSent) return;
    event.preventDefault();
    if (text.trim()) void send();
    else if (event.ctrlKey && !answering) write();
  };
  return html`
    <form class="composer" aria-label="Your turn" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <${FiguresLine} state=${state} />
      <${Growing} label="What ${story.user || "you"} say or do" value=${text} onInput=${setText}
        onKeyDown=${keys} placeholder=${`${story.user || "You"}…`} />
      <div class="actions">
        ${story.speakers.length > 1 && html`<${Speakers} story=${story} value=${speaker} onChange=${setSpeaker} />`}
        ${isBlind() && html`<button type="button" class="quiet count" title="Two models answer each turn"
          onClick=${() => set({ panel: "blind" })}>Blind: <${Count} state=${state} /></button>`}
        ${answering
          ? html`<button type="button" class="primary" onClick=${() => void stop()}>Stop</button>`
          : html`
            <button type="button" class="primary" disabled=${!text.trim()} onClick=${send}>Send</button>
            <button type="button" disabled=${!text.trim()} title="Add this without an answer"
              onClick=${async () => void ((await add("user", text)) && setText(""))}>Add</button>
            <button type="button" disabled=${!last} onClick=${write}>
              ${last?.role === "assistant" ? "Continue" : "Answer"}</button>
            <button type="button" disabled=${last?.role !== "assistant"} title="Another swipe of the last answer"
              onClick=${() => void answer("again")}>Again</button>
            ${story.speakers.length > 1 && last?.role === "assistant" && html`
              <button type="button" title="The next character speaks" onClick=${() => void answer("speak", { speaker: next })}>
                Next: ${next}</button>`}`}
      </div>
    </form>
  `;
}

/** Give back a message that the server has not taken. @param {string} text @param {any} setText */
function restore(text, setText) {
  setText((/** @type {string} */ written) => written || text);
}

/** @param {{story: import("./types.js").Story, value: string, onChange: (name: string) => void}} props */
function Speakers({ story, value, onChange }) {
  return html`
    <label class="inline">Who answers
      <select value=${value} onChange=${(/** @type {any} */ event) => onChange(event.target.value)}>
        <option value="">${story.next_speaker}, or whom you name</option>
        ${story.speakers.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select></label>
  `;
}
