// The stories on the server, the one changed last first.

import { html, useState } from "../vendor/htm-preact.js";
import { nextTheme, themeName } from "./theme.js";
import { set } from "./store.js";
import { takeFiles } from "./drops.js";
import { open, remove } from "./stories.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").StoryLine} StoryLine */

/** @param {{state: State}} props */
export function StoryList({ state }) {
  const [wanted, setWanted] = useState("");
  const shown = state.stories.filter((one) => one.name.toLowerCase().includes(wanted.toLowerCase()));
  return html`
    <div class="shade" onClick=${() => set({ listIsOpen: false })}></div>
    <nav id="stories" class="stories" aria-label="Stories">
      <button class="primary" onClick=${() => set({ dialog: "new" })}>New story…</button>
      ${state.stories.length > 8 && html`
        <input type="search" aria-label="Find a story" placeholder="Find" value=${wanted}
          onInput=${(/** @type {any} */ event) => setWanted(event.target.value)} />`}
      <ul>${shown.map((one) => html`<${Line} key=${one.name} line=${one} isOpen=${one.name === state.story?.name} />`)}</ul>
      <footer>
        <label class="button">Import…
          <input type="file" accept=".jsonl" class="hidden-input" onChange=${chosen} /></label>
        <button onClick=${nextTheme} aria-label="Colors: ${themeName(state.theme)}">◐ ${themeName(state.theme)}</button>
        <button onClick=${() => set({ dialog: "help" })}>Keys</button>
      </footer>
    </nav>
  `;
}

/** @param {{line: StoryLine, isOpen: boolean}} props */
function Line({ line, isOpen }) {
  const [isSure, setSure] = useState(false);
  return html`
    <li class=${isOpen ? "open" : ""}>
      <button class="name" aria-current=${isOpen ? "true" : null} onClick=${() => open(line.name)}>
        <span>${line.name}</span>
        <small>${when(line.changed)}${line.parent && ` · from ${line.parent}`}</small>
      </button>
      ${isSure
        ? html`<button class="danger" onClick=${() => void remove(line.name)} onBlur=${() => setSure(false)}
            ref=${focus}>Delete</button>`
        : html`<button class="quiet" aria-label="Delete ${line.name}…" onClick=${() => setSure(true)}>✕</button>`}
    </li>
  `;
}

/** @param {HTMLElement | null} element */
const focus = (element) => element?.focus();

/** @param {{target: HTMLInputElement}} event */
function chosen({ target }) {
  void takeFiles([...(target.files ?? [])]);
  target.value = "";
}

/** A time as people say it. @param {string} iso */
export function when(iso) {
  const time = new Date(iso);
  const isToday = time.toDateString() === new Date().toDateString();
  return isToday
    ? time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : time.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
}
