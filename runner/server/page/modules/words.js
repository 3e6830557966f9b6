// The tokens of answers that this page has seen being written, found again by their text.

/** @typedef {import("./types.js").Word} Word */

const MOST = 200; // answers; the oldest are forgotten
/** @type {Map<string, Word[]>} */
const known = new Map();

/** Remember the words of an answer. @param {string} text @param {Word[]} words */
export function keepWords(text, words) {
  known.delete(text);
  known.set(text, words);
  if (known.size > MOST) known.delete(known.keys().next().value ?? "");
}

/** The words of a text; undefined if it was not written before this page's eyes. @param {string} text */
export const wordsOf = (text) => known.get(text);

/**
 * A text as words: those known of it as far as they make it up, the rest in one piece.
 * @param {string} text
 * @param {Word[]} words
 * @returns {Word[]}
 */
export function asWords(text, words) {
  const kept = [];
  let at = 0;
  for (const word of words) {
    if (!text.startsWith(word.text, at)) break;
    kept.push(word);
    at += word.text.length;
  }
  return at < text.length ? [...kept, { text: text.slice(at) }] : kept;
}

/** @param {Word[]} words */
export const joined = (words) => words.map((word) => word.text).join("");

/** How a token is shown where its spaces matter. @param {string} text */
export const shown = (text) =>
  text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/gu, "␣") || "∅";

/** @param {number} probability from 0 to 1 */
export function percent(probability) {
  const value = 100 * probability;
  return `${value >= 10 || value === 0 ? value.toFixed(0) : value.toPrecision(2)} %`;
}
