// A new story: who plays, and in which world.

import { html, useState } from "../vendor/htm-preact.js";
import { Dialog } from "./dialogs.js";
import { Choice } from "./fields.js";
import { begin } from "./stories.js";
import { set } from "./store.js";

/** @typedef {import("./types.js").State} State */

/** @param {{state: State}} props */
export function NewStoryDialog({ state }) {
  const [wish, setWish] = useState({ name: "", user: "", cards: [], lorebooks: [] });
  const put = (/** @type {object} */ change) => setWish((now) => ({ ...now, ...change }));
  const start = async () => {
    const given = Object.entries(wish).filter(([, value]) => value.length);
    if (await begin(Object.fromEntries(given))) set({ dialog: "" });
  };
  const chosen = (/** @type {string[]} */ ids, /** @type {{id: string, name: string}[]} */ all) =>
    all.filter((one) => ids.includes(one.id));
  return html`
    <${Dialog} title="New story" onSubmit=${start}>
      <label>Name <input type="text" value=${wish.name} placeholder="the server finds one"
        onInput=${(/** @type {any} */ event) => put({ name: event.target.value })} /></label>
      <label>You are <input type="text" value=${wish.user} placeholder="User"
        onInput=${(/** @type {any} */ event) => put({ user: event.target.value })} /></label>
      <${Choice} label="Characters" all=${state.cards} chosen=${chosen(wish.cards, state.cards)}
        onKeep=${(/** @type {string[]} */ cards) => put({ cards })} />
      <${Choice} label="Lorebooks" all=${state.lorebooks} chosen=${chosen(wish.lorebooks, state.lorebooks)}
        onKeep=${(/** @type {string[]} */ lorebooks) => put({ lorebooks })} />
      <p class="actions"><button class="primary">Begin</button>
        <button type="button" onClick=${() => set({ dialog: "" })}>Cancel</button></p>
    <//>
  `;
}
