// A message being edited in its place.

import { html, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { answer } from "./answering.js";
import { edit } from "./messages.js";
import { now } from "./store.js";

/** @typedef {import("./types.js").Message} Message */

/** @param {{message: Message, index: number, isLast: boolean, close: () => void}} props */
export function Editor({ message, index, isLast, close }) {
  const [text, setText] = useState(message.text);
  const isAsked = message.role === "user" && index === lastQuestion();
  const keep = async () => {
    if (text === message.text || (await edit(index, text))) close();
  };
  const ask = () => {
    close();
    void answer("instead", { text });
  };
  const continueFrom = async () => {
    await keep();
    await answer("continue");
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && event.ctrlKey) void keep();
    if (event.key !== "Escape") return;
    event.preventDefault();
    if (text === message.text) close();
  };
  return html`
    <${Growing} label="Edit ${message.name || "message"}" value=${text} onInput=${setText}
      onKeyDown=${keys} hasFocus />
    <footer class="editing">
      <button class="primary" onClick=${keep}>Keep</button>
      ${isAsked && html`<button onClick=${ask}>Keep and answer again</button>`}
      ${message.role === "assistant" && isLast && html`
        <button onClick=${continueFrom}>Keep and continue</button>`}
      <button onClick=${close}>Cancel</button>
    </footer>
  `;
}

const lastQuestion = () =>
  now().story?.messages.findLastIndex((message) => message.role === "user") ?? -1;

/**
 * A text field as high as its text.
 * @param {{label: string, value: string, onInput: (text: string) => void, hasFocus?: boolean,
 *   placeholder?: string, isBusy?: boolean, onKeyDown?: (event: KeyboardEvent) => void,
 *   onBlur?: () => void, className?: string}} props
 */
export function Growing({ label, value, onInput, hasFocus, placeholder, isBusy, onKeyDown, onBlur, className }) {
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => {
    const element = field.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight + 2}px`;
  }, [value]);
  useLayoutEffect(() => {
    if (hasFocus) field.current?.focus();
  }, []);
  return html`
    <textarea ref=${field} class=${className ?? ""} aria-label=${label} value=${value} rows="1"
      placeholder=${placeholder ?? ""} readonly=${Boolean(isBusy)} onKeyDown=${onKeyDown} onBlur=${onBlur}
      onInput=${(/** @type {any} */ event) => onInput(event.target.value)}></textarea>
  `;
}
