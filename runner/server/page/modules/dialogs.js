// Dialogs: the server's key, export, and the keys of the keyboard.

import { html, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { FORMS, save } from "./export.js";
import { KEYS } from "./keys.js";
import { remember, remembered } from "./memory.js";
import { set } from "./store.js";

/** @typedef {import("./types.js").State} State */

const close = () => set({ dialog: "" });

/** @param {{title: string, onSubmit: () => void, children?: unknown}} props */
export function Dialog({ title, onSubmit, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    onSubmit();
  };
  return html`
    <dialog ref=${element} aria-label=${title} onCancel=${close}>
      <form method="dialog" onSubmit=${submit}><h2>${title}</h2>${children}</form>
    </dialog>
  `;
}

/** @param {{begin: () => void}} props */
export function KeyDialog({ begin }) {
  const [key, setKey] = useState("");
  const wasWrong = remembered("key", "") !== "";
  const enter = () => {
    remember("key", key.trim());
    close();
    begin();
  };
  return html`
    <${Dialog} title="The server's key" onSubmit=${enter}>
      <p>${wasWrong ? "That is not this server's key." : "This server needs its key."} It is printed where
        <code>franken-gguf serve</code> was started.</p>
      <label>Key <input type="password" autocomplete="current-password" value=${key}
        onInput=${(/** @type {any} */ event) => setKey(event.target.value)} /></label>
      <p class="actions"><button class="primary" disabled=${!key.trim()}>Enter</button></p>
    <//>
  `;
}

/** @param {{state: State}} props */
export function ExportDialog({ state }) {
  const [form, setForm] = useState("md");
  const [narratorOnly, setNarratorOnly] = useState(false);
  const { story } = state;
  if (!story) return null;
  return html`
    <${Dialog} title="Export “${story.name}”" onSubmit=${async () => {
      await save(story, form, narratorOnly);
      close();
    }}>
      <fieldset><legend>As</legend>${FORMS.map(([value, label]) => html`
        <label class="check" key=${value}><input type="radio" name="form" checked=${form === value}
          onChange=${() => setForm(value)} /> ${label}</label>`)}</fieldset>
      ${form === "epub" && html`
        <label class="check"><input type="checkbox" checked=${narratorOnly}
          onChange=${() => setNarratorOnly(!narratorOnly)} /> Only what the model wrote</label>`}
      <p class="actions"><button class="primary">Save</button>
        <button type="button" onClick=${close}>Cancel</button></p>
    <//>
  `;
}

export function HelpDialog() {
  return html`
    <${Dialog} title="Keys" onSubmit=${close}>
      <dl class="keys">${KEYS.map(([key, what]) => html`<dt>${key}</dt><dd>${what}</dd>`)}</dl>
      <p class="actions"><button class="primary">Close</button></p>
    <//>
  `;
}
