// An answer token by token: who wrote it, how likely it was, and what else could have stood there.

import { html, useLayoutEffect, useRef, useState } from "../vendor/htm-preact.js";
import { answer } from "./answering.js";
import { useStore } from "./store.js";
import { joined, percent, shown } from "./words.js";

/** @typedef {import("./types.js").Word} Word */

const COLORS = 8;
const STEPS = [0.9, 0.6, 0.3, 0.1]; // of probability; below the last is a surprise

/** @param {{words: Word[], isLast: boolean, isBusy: boolean, close: () => void}} props */
export function WordView({ words, isLast, isBusy, close }) {
  const [place, setPlace] = useState(words.findIndex((word) => word.alternatives));
  const [isShown, setShown] = useState(false);
  const byExpert = words.some((word) => word.experts?.length);
  const field = useRef(/** @type {HTMLElement | null} */ (null));
  const go = (/** @type {number} */ at) => {
    const next = Math.min(Math.max(at, 0), words.length - 1);
    setPlace(next);
    /** @type {HTMLElement | undefined} */ (field.current?.children[next])?.focus();
  };
  const show = (/** @type {number} */ at) => {
    setPlace(at);
    setShown(Boolean(words[at]?.alternatives));
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      show(place);
    }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.altKey) return;
    event.preventDefault();
    go(place + step);
  };
  const instead = (/** @type {string} */ text) => {
    close();
    void answer("continue", { begun: joined(words.slice(0, place)) + text });
  };
  return html`
    <div class="text words" ref=${field} onKeyDown=${keys} role="group" aria-label="The answer, word by word">
      ${words.map((word, n) => html`
        <span key=${n} role="button" class=${colorOf(word, byExpert)} tabindex=${n === place ? 0 : -1}
          aria-pressed=${isShown && n === place} aria-disabled=${!word.alternatives}
          onClick=${() => show(n)}>${word.text}</span>`)}
    </div>
    <${Legend} words=${words} byExpert=${byExpert} />
    ${isShown && words[place] && html`
      <${Alternatives} word=${words[place]} canChoose=${isLast && !isBusy} onChoose=${instead} />`}
  `;
}

/** @param {Word} word @param {boolean} byExpert */
function colorOf(word, byExpert) {
  if (byExpert) return word.experts?.length ? `expert-${word.experts[0][0] % COLORS}` : "";
  const step = STEPS.findIndex((least) => (word.probability ?? 1) >= least);
  return `likely-${step < 0 ? STEPS.length : step}`;
}

/** @param {number} expert @param {string[]} names */
const expertName = (expert, names) => names[expert] ?? `expert ${expert}`;

/** @param {{words: Word[], byExpert: boolean}} props */
function Legend({ words, byExpert }) {
  const names = useStore().desk?.expert_names ?? [];
  if (!byExpert) {
    const labels = ["90 % and more", "60 %", "30 %", "10 %", "less likely"];
    return html`<p class="legend">${labels.map((label, n) => html`<span class="likely-${n}">${label}</span>`)}</p>`;
  }
  /** @type {Map<number, number>} */
  const counts = new Map();
  for (const { experts } of words) {
    if (experts?.length) counts.set(experts[0][0], (counts.get(experts[0][0]) ?? 0) + 1);
  }
  const total = [...counts.values()].reduce((sum, n) => sum + n, 0);
  return html`
    <p class="legend">${[...counts].sort((a, b) => b[1] - a[1]).map(([expert, n]) => html`
      <span class="expert-${expert % COLORS}">${expertName(expert, names)} ${percent(n / total)}</span>`)}</p>
  `;
}

/** @param {{word: Word, canChoose: boolean, onChoose: (text: string) => void}} props */
function Alternatives({ word, canChoose, onChoose }) {
  const names = useStore().desk?.expert_names ?? [];
  const experts = (word.experts ?? []).map(
    ([expert, share]) => `${expertName(expert, names)} ${percent(share)}`,
  );
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  useLayoutEffect(() => element.current?.scrollIntoView({ block: "nearest" }), [word]);
  return html`
    <div ref=${element} class="alternatives" role="region" aria-live="polite" aria-label="Alternatives">
      <p><b>${shown(word.text)}</b> ${percent(word.probability ?? 0)}
        ${experts.length > 0 && html`<small> · ${experts.join(", ")}</small>`}</p>
      <p>${(word.alternatives ?? []).map((one) => html`
        <button key=${one.id} disabled=${!canChoose} onClick=${() => onChoose(one.text)}
          title="Continue from this word">${shown(one.text)} <small>${percent(one.probability)}</small></button>`)}</p>
      ${canChoose && html`<p class="small">Choose one: the story continues from it.</p>`}
    </div>
  `;
}
