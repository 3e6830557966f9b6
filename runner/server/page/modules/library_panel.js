// The library: character cards and lorebooks that were uploaded.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { download, request } from "./api.js";
import { ACCEPTED, takeFiles } from "./drops.js";
import { attempt } from "./notices.js";
import { begin, loadLibrary } from "./stories.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Card} Card */
/** @typedef {import("./types.js").Lorebook} Lorebook */

/** @param {{state: State}} props */
export function LibraryPanel({ state }) {
  const choose = (/** @type {any} */ event) => {
    void takeFiles([...event.target.files]);
    event.target.value = "";
  };
  return html`
    <label class="button drop">Add cards or lorebooks…
      <input type="file" class="hidden-input" multiple accept=${ACCEPTED} onChange=${choose} />
      <small>PNG, JSON or CHARX; or drop them anywhere</small></label>
    <h3>Characters</h3>
    <ul class="cards">${state.cards.map((card) => html`<${CardView} key=${card.id} card=${card} />`)}</ul>
    ${!state.cards.length && html`<p class="small">None yet.</p>`}
    <h3>Lorebooks</h3>
    <ul class="cards">${state.lorebooks.map((book) => html`<${BookView} key=${book.id} book=${book} />`)}</ul>
    ${!state.lorebooks.length && html`<p class="small">None yet.</p>`}
  `;
}

/** @param {{card: Card}} props */
function CardView({ card }) {
  const [whole, setWhole] = useState(/** @type {Card | null} */ (null));
  const open = async (/** @type {any} */ event) => {
    if (event.target.open && !whole) setWhole((await attempt(() => request("GET", `/api/cards/${card.id}`))) ?? null);
  };
  return html`
    <li>
      ${card.has_picture && html`<${Picture} card=${card} />`}
      <div>
        <b>${card.name}</b>
        <small>${[card.creator && `by ${card.creator}`, ...card.tags.slice(0, 4)].filter(Boolean).join(" · ")}</small>
        <details onToggle=${open}><summary>About</summary>
          ${whole && html`<${Texts} texts=${[
            ["From its author", whole.notes], ["Description", whole.description], ["Personality", whole.personality],
            ["Scenario", whole.scenario], ["First message", whole.first_mes], ["Remarks", whole.remarks.join("\n")],
          ]} />`}</details>
        <p class="actions">
          <button onClick=${() => void begin({ cards: [card.id] })}>Begin a story</button>
          <${DeleteButton} name=${card.name} path="/api/cards/${card.id}" /></p>
      </div>
    </li>
  `;
}

/** @param {{book: Lorebook}} props */
function BookView({ book }) {
  const [whole, setWhole] = useState(/** @type {Lorebook | null} */ (null));
  const open = async (/** @type {any} */ event) => {
    if (event.target.open && !whole) setWhole((await attempt(() => request("GET", `/api/lorebooks/${book.id}`))) ?? null);
  };
  return html`
    <li><div>
      <b>${book.name}</b> <small>${book.entries} entries</small>
      <details onToggle=${open}><summary>Entries</summary>
        ${whole && html`<${Texts} texts=${(whole.items ?? []).map(({ keys, text }) => [keys.join(", ") || "always", text])} />`}</details>
      <p class="actions"><${DeleteButton} name=${book.name} path="/api/lorebooks/${book.id}" /></p>
    </div></li>
  `;
}

/** @param {{texts: [string, string | undefined][]}} props */
function Texts({ texts }) {
  return html`<dl>${texts.filter(([, text]) => text).map(([name, text]) => html`
    <dt>${name}</dt><dd>${text}</dd>`)}</dl>`;
}

/** @param {{name: string, path: string}} props */
function DeleteButton({ name, path }) {
  const [isSure, setSure] = useState(false);
  const remove = async () => {
    await attempt(() => request("DELETE", path));
    await loadLibrary();
  };
  return isSure
    ? html`<button class="danger" onClick=${remove} onBlur=${() => setSure(false)}>Delete ${name}</button>`
    : html`<button class="quiet" onClick=${() => setSure(true)}>Delete…</button>`;
}

const SIZE = 96; // pixels, for screens that have two in one

/** A card's picture, drawn: a request for an image could not carry the server's key. @param {{card: Card}} props */
function Picture({ card }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => {
    const draw = async () => {
      const file = await download(`/api/cards/${card.id}/picture`).catch(() => null);
      const picture = file && (await createImageBitmap(file).catch(() => null));
      if (!picture) return;
      const side = Math.min(picture.width, picture.height);
      const left = (picture.width - side) / 2;
      canvas.current?.getContext("2d")?.drawImage(picture, left, 0, side, side, 0, 0, SIZE, SIZE);
    };
    void draw();
  }, [card.id]);
  return html`<canvas ref=${canvas} class="picture" width=${SIZE} height=${SIZE} role="img" aria-label="Picture of ${card.name}"></canvas>`;
}
