// The notebook: the story as one text that both the user and the model write on.

import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { answer, stop } from "./answering.js";
import { FiguresLine } from "./figures.js";
import { replaceAll } from "./messages.js";
import { BETWEEN, flowing, spread } from "./notebook.js";
import { Spoken } from "./spoken.js";
import { now } from "./store.js";
import { joined } from "./words.js";

/** @typedef {import("./types.js").State} State */

const PAUSE = 1500; // milliseconds without a key before the text is saved

/** @typedef {import("./types.js").Story} Story */
/** @typedef {import("./notebook.js").Told} Told */
/** @typedef {{messages: Told[], story: Story}} Draft  the changed texts, and the story that they were made of */

/** @param {{state: State}} props */
export function NotebookView({ state }) {
  const { story, answering } = state;
  const [draft, save, setText] = useDraft();
  if (!story) return null;
  const isMine = answering?.story === story.name;
  const write = async () => {
    if (!(await save())) return;
    const last = now().story?.messages.findLast((one) => one.role !== "note");
    await answer(last?.role === "assistant" ? "continue" : "speak");
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Enter" || !event.ctrlKey) return;
    event.preventDefault();
    if (!answering) void write();
  };
  const text = isMine ? running(state) : flowing(draft?.messages ?? story.messages);
  return html`
    <div class="notebook">
      <${Sheet} text=${text} isBusy=${isMine} onInput=${setText} onKeyDown=${keys} onBlur=${save} />
      <div class="composer">
        <${FiguresLine} state=${state} />
        <div class="actions">
          ${isMine
            ? html`<button class="primary" onClick=${() => void stop()}>Stop</button>`
            : html`<button class="primary" disabled=${!text.trim()} onClick=${write}>Write on</button>`}
          <span class="small" role="status">${isMine ? answering.status : draft ? "Not saved yet" : "Saved"}</span>
        </div>
      </div>
    </div>
    <${Spoken} text=${isMine ? joined(answering.words.slice(answering.first)) : ""} />
  `;
}

/**
 * The changed text, saved after a pause and when the notebook is left.
 * @returns {[Draft | null, () => Promise<boolean>, (text: string) => void]}
 */
function useDraft() {
  const [draft, setDraft] = useState(/** @type {Draft | null} */ (null));
  const latest = useRef(draft);
  const put = (/** @type {Draft | null} */ next) => {
    latest.current = next;
    setDraft(next);
  };
  const running = useRef(Promise.resolve(true));
  const saveNow = async () => {
    const saved = latest.current;
    if (!saved) return true;
    const told = saved.messages.filter((one) => one.role === "note" || one.text.trim());
    const story = await replaceAll(saved.story, told.map(({ role, text, name }) => ({ role, text, name })));
    const next = latest.current;
    if (story) put(next && next !== saved ? { ...next, story } : null);
    return Boolean(story);
  };
  const save = () => (running.current = running.current.then(saveNow));
  // Each key changes one place, so it is known which message it belongs to.
  const setText = (/** @type {string} */ text) => {
    const story = latest.current?.story ?? now().story;
    if (story) put({ messages: spread(latest.current?.messages ?? story.messages, text), story });
  };
  useEffect(() => {
    if (!draft) return undefined;
    const timer = setTimeout(save, PAUSE);
    return () => clearTimeout(timer);
  }, [draft]);
  useEffect(() => () => void save(), []);
  return [draft, save, setText];
}

/** The text with the running answer in its place. @param {State} state */
function running({ story, answering }) {
  const messages = story?.messages.slice(0, answering?.index) ?? [];
  const written = joined(answering?.words ?? []);
  return [flowing(messages), written].filter(Boolean).join(BETWEEN);
}

/** @param {any} props */
function Sheet({ text, isBusy, onInput, onKeyDown, onBlur }) {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useEffect(() => {
    if (field.current) field.current.scrollTop = field.current.scrollHeight;
  }, [isBusy, isBusy && text]);
  return html`
    <textarea ref=${field} class="sheet" aria-label="The story as one text" value=${text} readonly=${isBusy}
      placeholder="Begin to write; Ctrl+Enter lets the model continue." onKeyDown=${onKeyDown} onBlur=${onBlur}
      onInput=${(/** @type {any} */ event) => onInput(event.target.value)}></textarea>
  `;
}
