// Tells what a model thinks from what it answers, as the chat at a terminal does. Pure.

const OPEN = "<think>";
const CLOSE = "</think>";

/**
 * Only a text that starts with <think> has thoughts; what follows </think> is the answer.
 * @param {string} text
 * @returns {{thoughts: string, answer: string}}
 */
export function split(text) {
  const start = text.trimStart();
  if (!start.startsWith(OPEN)) return { thoughts: "", answer: text };
  const end = start.indexOf(CLOSE);
  if (end < 0) return { thoughts: start.slice(OPEN.length), answer: "" };
  return {
    thoughts: start.slice(OPEN.length, end),
    answer: start.slice(end + CLOSE.length).trimStart(),
  };
}

/** How many words a text has. @param {string} text */
export function countWords(text) {
  return text.split(/\s+/u).filter(Boolean).length;
}
