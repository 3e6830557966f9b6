// How the next words are chosen: presets, samplers and their order, banned phrases, length.

import { html, useState } from "../vendor/htm-preact.js";
import { NumberField } from "./fields.js";
import { remember } from "./memory.js";
import { set } from "./store.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Setting} Setting */
/** @typedef {import("./types.js").Value} Value */

/** Where a slider ends; what lies beyond can be typed. @type {Record<string, [number, number, number]>} */
const SLIDERS = {
  temperature: [0, 2, 0.05], dynatemp_range: [0, 2, 0.05], dynatemp_exponent: [0, 4, 0.1],
  top_k: [0, 200, 1], top_p: [0, 1, 0.01], min_p: [0, 1, 0.01], typical_p: [0, 1, 0.01],
  top_n_sigma: [-1, 5, 0.1], xtc_probability: [0, 1, 0.05], xtc_threshold: [0, 0.5, 0.01],
  dry_multiplier: [0, 3, 0.05], dry_base: [1, 4, 0.05], dry_allowed_length: [1, 20, 1],
  repeat_penalty: [1, 2, 0.01], frequency_penalty: [0, 2, 0.05], presence_penalty: [0, 2, 0.05],
  repeat_last_n: [-1, 2048, 1], mirostat: [0, 2, 1], mirostat_tau: [0, 10, 0.1],
  mirostat_eta: [0, 1, 0.01],
};
/** Settings that are shown at once. */
const COMMON = [
  "temperature", "min_p", "top_p", "top_k", "xtc_probability", "dry_multiplier", "repeat_penalty",
];

const isCommon = (/** @type {Setting} */ one) => COMMON.includes(one.name);

/** @param {State["sampling"]} sampling */
function keep(sampling) {
  remember("sampling", sampling);
  set({ sampling });
}

/** @param {{state: State}} props */
export function SamplingPanel({ state }) {
  const { desk, sampling } = state;
  if (!desk) return null;
  const valueOf = (/** @type {Setting} */ one) => sampling[one.name] ?? desk.sampling[one.name] ?? one.default;
  const put = (/** @type {string} */ name, /** @type {Value} */ value) => {
    const { [name]: _, ...rest } = sampling;
    keep(String(value) === String(desk.sampling[name]) ? rest : { ...rest, [name]: value });
  };
  const row = (/** @type {Setting} */ one) => html`
    <${Row} key=${one.name} setting=${one} value=${valueOf(one)} isChanged=${one.name in sampling}
      onChange=${(/** @type {Value} */ value) => put(one.name, value)} />`;
  const settings = desk.settings.filter((one) => one.name !== "samplers");
  return html`
    <${Presets} state=${state} />
    <${Length} state=${state} />
    <${Bans} state=${state} />
    ${settings.filter(isCommon).map(row)}
    <details><summary>All settings</summary>${settings.filter((one) => !isCommon(one)).map(row)}
      <${Order} all=${desk.samplers} value=${/** @type {string[]} */ (sampling.samplers ?? desk.sampling.samplers ?? desk.samplers)}
        onChange=${(/** @type {string[]} */ value) => put("samplers", value)} /></details>
  `;
}

/** @param {{state: State}} props */
function Presets({ state: { desk, sampling } }) {
  const choose = (/** @type {any} */ event) => {
    const preset = desk?.presets[event.target.value];
    if (preset) keep(preset);
  };
  const isChanged = Object.keys(sampling).length > 0;
  return html`
    <div class="actions">
      <label class="inline">Preset <select onChange=${choose}>
        <option value="">choose…</option>
        ${Object.keys(desk?.presets ?? {}).map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select></label>
      <button disabled=${!isChanged} onClick=${() => keep({})}>Back to the server's</button>
    </div>
  `;
}

/** @param {{state: State}} props */
function Length({ state }) {
  const change = (/** @type {number} */ maxTokens) => {
    remember("maxTokens", maxTokens);
    set({ maxTokens });
  };
  return html`<${NumberField} label="Longest answer in tokens (0: no limit)" value=${state.maxTokens}
    low=${0} high=${1_000_000} isWhole onKeep=${change} />`;
}

/** @param {{setting: Setting, value: Value, isChanged: boolean, onChange: (value: Value) => void}} props */
function Row({ setting, value, isChanged, onChange }) {
  const { name, kind, meaning } = setting;
  const id = `setting-${name}`;
  const label = html`<label for=${id} class=${isChanged ? "changed" : ""}>${name}</label>`;
  if (kind === "list" || kind === "text") {
    return html`<div class="setting">${label}<${ListField} id=${id} value=${value} isList=${kind === "list"}
      onChange=${onChange} /><small>${meaning}</small></div>`;
  }
  const slider = SLIDERS[name];
  const slide = (/** @type {any} */ { target }) => onChange(Number(target.value));
  return html`
    <div class="setting">${label}
      <${NumberField} id=${id} label=${name} value=${value} low=${setting.low} high=${setting.high}
        isWhole=${kind === "whole"} about="${id}-meaning" onKeep=${onChange} />
      ${slider && html`<input type="range" aria-label=${name} aria-describedby="${id}-meaning" min=${slider[0]} max=${slider[1]}
        step=${slider[2]} value=${value} onInput=${slide} />`}
      <small id="${id}-meaning">${meaning}</small>
    </div>
  `;
}

/** A text, or texts of which each is written as in JSON. @param {any} props */
function ListField({ id, value, isList, onChange }) {
  const text = isList ? JSON.stringify(value) : value;
  const take = (/** @type {any} */ event) => {
    try {
      onChange(isList ? JSON.parse(event.target.value) : event.target.value);
      event.target.setCustomValidity("");
    } catch {
      event.target.setCustomValidity('Write it like this: ["\\\\n", ":"]');
      event.target.reportValidity();
    }
  };
  return html`<input type="text" id=${id} value=${text} onChange=${take} />`;
}

/** @param {{all: string[], value: string[], onChange: (value: string[]) => void}} props */
function Order({ all, value, onChange }) {
  const move = (/** @type {number} */ at) => {
    const next = [...value];
    next.splice(at - 1, 2, next[at], next[at - 1]);
    onChange(next);
  };
  const unused = all.filter((one) => !value.includes(one));
  return html`
    <fieldset><legend>Order of the samplers</legend>
      <ol class="order">${value.map((one, at) => html`
        <li key=${one}><span>${one}</span>
          <button aria-label="${one} earlier" disabled=${at === 0} onClick=${() => move(at)}>↑</button>
          <button aria-label="Without ${one}" onClick=${() => onChange(value.filter((name) => name !== one))}>✕</button></li>`)}</ol>
      ${unused.map((one) => html`<button key=${one} onClick=${() => onChange([...value, one])}>+ ${one}</button>`)}
    </fieldset>
  `;
}

/** @param {{state: State}} props */
function Bans({ state: { bans, desk } }) {
  const [phrase, setPhrase] = useState("");
  const keepBans = (/** @type {string[]} */ next) => {
    remember("bans", next);
    set({ bans: next });
  };
  const add = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (phrase.trim() && !bans.includes(phrase)) keepBans([...bans, phrase]);
    setPhrase("");
  };
  return html`
    <form class="field" onSubmit=${add}>
      <label class="label" for="ban">Banned phrases</label>
      <span class="actions"><input type="text" id="ban" value=${phrase} placeholder="shivers down"
        onInput=${(/** @type {any} */ event) => setPhrase(event.target.value)} />
        <button disabled=${!phrase.trim()}>Ban</button></span>
      <p class="chips">${(desk?.bans ?? []).map((one) => html`<span class="chip" key=${one}>${one}</span>`)}
        ${bans.map((one) => html`<span class="chip" key=${one}>${one}
          <button type="button" class="quiet" aria-label="Allow ${one}" onClick=${() => keepBans(bans.filter((other) => other !== one))}>✕</button></span>`)}</p>
      <small>The model goes back and finds other words.</small>
    </form>
  `;
}
