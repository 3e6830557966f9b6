// A story as one flowing text, and back: which messages a change of the text falls into. Pure.

export const BETWEEN = "\n\n";

/** @typedef {{role: string, text: string, name?: string}} Told */

/** The text of the messages that the model reads. @param {Told[]} messages */
export const flowing = (messages) => read(messages).map((one) => one.text).join(BETWEEN);

/**
 * The messages after their flowing text was changed to `text`. A change inside a message stays
 * there; one across several joins them in the first.
 * @param {Told[]} messages
 * @param {string} text
 * @returns {Told[]}
 */
export function spread(messages, text) {
  const before = flowing(messages);
  const parts = placed(messages);
  if (text === before) return messages;
  if (!parts.length) return [...messages, { role: "assistant", text }];
  const [start, end] = changedRange(before, text);
  const written = text.slice(start, text.length - (before.length - end));
  const next = parts.findIndex((part) => part.from > start);
  const first = next < 0 ? parts.length - 1 : next - 1;
  const found = parts.findIndex((part, n) => n >= first && part.to >= end);
  const last = found < 0 ? parts.length - 1 : found;
  const { message, from } = parts[first];
  const joined = before.slice(from, start) + written + before.slice(end, parts[last].to);
  const gone = new Set(parts.slice(first + 1, last + 1).map((part) => part.message));
  return messages
    .filter((one) => !gone.has(one))
    .map((one) => (one === message ? { ...one, text: joined } : one));
}

/** @param {Told[]} messages */
const read = (messages) => messages.filter((one) => one.role !== "note");

/** The messages with their places in the flowing text. @param {Told[]} messages */
function placed(messages) {
  let at = 0;
  return read(messages).map((message) => {
    const from = at;
    at += message.text.length + BETWEEN.length;
    return { message, from, to: at - BETWEEN.length };
  });
}

/**
 * Where the old text was changed: both texts begin and end alike outside of it.
 * @param {string} before
 * @param {string} after
 * @returns {[number, number]}
 */
function changedRange(before, after) {
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && before[start] === after[start]) start++;
  let same = 0;
  while (same < shorter - start && before.at(-1 - same) === after.at(-1 - same)) same++;
  return [start, before.length - same];
}
