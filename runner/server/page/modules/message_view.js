// One message: its text, its swipes and branches, and what can be done with it.

import { html, useState } from "../vendor/htm-preact.js";
import { Editor } from "./editor.js";
import { swipe } from "./keys.js";
import { spans } from "./marked_text.js";
import { removeMessage, turnTo } from "./messages.js";
import { branch, open } from "./stories.js";
import { countWords, split } from "./thoughts.js";
import { WordView } from "./word_view.js";
import { joined, wordsOf } from "./words.js";

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Answering} Answering */

/**
 * @param {{message: Message, index: number, live: Answering | null, isLast: boolean,
 *   isBusy: boolean, isRead: boolean}} props
 */
export function MessageView({ message, index, live, isLast, isBusy, isRead }) {
  const [mode, setMode] = useState(/** @type {"" | "edit" | "words"} */ (""));
  const text = live ? joined(live.words) : message.text;
  const words = wordsOf(message.text);
  const close = () => setMode("");
  const label = `${message.name || message.role}, message ${index + 1}`;
  return html`
    <article class="message ${message.role} ${live ? "live" : ""}" aria-label=${label} tabindex="-1">
      <header>
        <h3>${message.name}</h3>
        ${!live && !isRead && mode !== "edit" && html`
          <${Tools} index=${index} isLast=${isLast} isBusy=${isBusy} hasWords=${Boolean(words)}
            mode=${mode} setMode=${setMode} />`}
      </header>
      ${mode === "edit" && !live
        ? html`<${Editor} message=${message} index=${index} isLast=${isLast} close=${close} />`
        : mode === "words" && words && !live
          ? html`<${WordView} words=${words} isLast=${isLast} isBusy=${isBusy} close=${close} />`
          : html`<${Text} text=${text} />`}
      ${live?.status && html`<p class="waiting">${live.status}</p>`}
      ${live && !text && !live.status && html`<p class="waiting" aria-hidden="true"><i></i><i></i><i></i></p>`}
      ${!live && !isRead && mode !== "edit" && html`
        <${Foot} message=${message} index=${index} isLast=${isLast} isBusy=${isBusy} />`}
    </article>
  `;
}

/** A text with its quoted speech and *actions*, thoughts folded. @param {{text: string}} props */
export function Text({ text }) {
  const { thoughts, answer } = split(text);
  const words = countWords(thoughts);
  return html`
    ${words > 0 && html`
      <details class="thoughts">
        <summary>Thoughts, ${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}</summary>
        <p>${thoughts.trim()}</p>
      </details>`}
    <div class="text">${spans(answer).map((span, n) => {
      const kind = [span.isSpeech && "speech", span.isAction && "action"].filter(Boolean).join(" ");
      return kind ? html`<span key=${n} class=${kind}>${span.text}</span>` : span.text;
    })}</div>
  `;
}

/** @param {any} props */
function Tools({ index, isLast, isBusy, hasWords, mode, setMode }) {
  return html`
    <span class="tools">
      <button disabled=${isBusy} onClick=${() => setMode("edit")}>Edit</button>
      ${hasWords && html`<button aria-pressed=${mode === "words"}
        onClick=${() => setMode(mode === "words" ? "" : "words")}>Words</button>`}
      <button disabled=${isBusy} onClick=${() => void branch(index)}
        title="Continue from here in a copy; this story stays">Branch</button>
      <${Remove} index=${index} isLast=${isLast} isBusy=${isBusy} />
    </span>
  `;
}

/** @param {{message: Message, index: number, isLast: boolean, isBusy: boolean}} props */
function Foot({ message, index, isLast, isBusy }) {
  const hasSwipes = message.role === "assistant" && (isLast || message.swipes.length > 1);
  if (!hasSwipes && !message.branches.length) return null;
  return html`
    <footer>
      ${hasSwipes && html`
        <${Swipes} message=${message} index=${index} isLast=${isLast} isBusy=${isBusy} />`}
      ${message.branches.map((/** @type {string} */ name) => html`
        <button class="branch" key=${name} onClick=${() => open(name)}>↳ ${name}</button>`)}
    </footer>
  `;
}

/** @param {{message: Message, index: number, isLast: boolean, isBusy: boolean}} props */
function Swipes({ message, index, isLast, isBusy }) {
  const { swipe: place, swipes } = message;
  const isNewest = place === swipes.length - 1;
  const forward = () => (isLast ? swipe(1) : void turnTo(index, place + 1));
  return html`
    <span class="swipes" role="group" aria-label="Swipes">
      <button aria-label="Previous swipe" disabled=${isBusy || place === 0}
        onClick=${() => void turnTo(index, place - 1)}>‹</button>
      <span>${place + 1}/${swipes.length}</span>
      <button aria-label=${isNewest ? "Write another swipe" : "Next swipe"}
        disabled=${isBusy || (isNewest && !isLast)} onClick=${forward}>›</button>
    </span>
  `;
}

/** @param {{index: number, isLast: boolean, isBusy: boolean}} props */
function Remove({ index, isLast, isBusy }) {
  const [isSure, setSure] = useState(false);
  if (!isSure) return html`<button disabled=${isBusy} onClick=${() => setSure(true)}>Delete…</button>`;
  const remove = (/** @type {boolean} */ rest) => {
    setSure(false);
    void removeMessage(index, rest);
  };
  return html`
    <button class="danger" onClick=${() => remove(false)}>Delete this</button>
    ${!isLast && html`<button class="danger" onClick=${() => remove(true)}>and all after it</button>`}
    <button onClick=${() => setSure(false)}>Keep</button>
  `;
}
