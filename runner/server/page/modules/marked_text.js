// Quoted speech and *actions* in a text, found as the chat at a terminal finds them. Pure.

/** @type {Record<string, string>} */
const CLOSING = { '"': '"', "“": "”", "«": "»", "「": "」", "『": "』" };
const LONGEST_RUN = 8; // more in a row is a line across the page
const FENCE = 3;

/** @typedef {{text: string, isSpeech: boolean, isAction: boolean}} Span */

/**
 * A text's spans, marks included. A mark that is left open ends with its line. Apostrophes, inches
 * (6"), bullets, products (2*3), **bold** and everything in `code` or a code fence open nothing.
 * @param {string} text
 * @returns {Span[]}
 */
export function spans(text) {
  /** @type {Span[]} */
  const found = [];
  let closing = "";
  let isAction = false;
  let code = 0;
  let before = "\n";

  /** @param {string} piece @param {{isSpeech: boolean, isAction: boolean}} kind */
  const add = (piece, kind) => {
    const last = found.at(-1);
    if (last && last.isSpeech === kind.isSpeech && last.isAction === kind.isAction) last.text += piece;
    else found.push({ text: piece, ...kind });
  };
  const kind = () => ({ isSpeech: !code && closing !== "", isAction: !code && isAction });

  /** @param {string} run @param {string} after */
  const endRun = (run, after) => {
    const was = kind();
    const preceding = before;
    before = run[0];
    if (run[0] === "`") {
      if (code === 0 || code === run.length) code = run.length - code;
      return code === 0 ? was : kind();
    }
    if (code) return was;
    const opens = !/\s/u.test(after) && !/[\p{L}\p{N}]/u.test(preceding);
    if (run === '"') {
      if (closing === run) {
        closing = "";
        return was;
      }
      if (opens && !closing) closing = run;
    } else if (run.length === 1 || run.length === 3) {
      if (isAction && !/\s/u.test(preceding)) {
        isAction = false;
        return was;
      }
      isAction = isAction || opens;
    }
    return kind();
  };

  /** @param {string} character */
  const plain = (character) => {
    if (character === "\n") {
      closing = "";
      isAction = false;
      if (code < FENCE) code = 0;
    } else if (!code && closing === character) {
      const was = kind();
      closing = "";
      return was;
    } else if (!code && !closing) {
      closing = CLOSING[character] ?? "";
    }
    return kind();
  };

  const characters = [...text];
  for (let at = 0; at < characters.length; ) {
    const first = characters[at];
    const end = at + runLength(characters, at);
    if (end === at) {
      add(first, plain(first));
      before = first;
      at++;
    } else {
      const run = characters.slice(at, end).join("");
      add(run, endRun(run, characters[end] ?? "\n"));
      at = end;
    }
  }
  return found;
}

/** How many marks that may open something stand at a place. @param {string[]} characters @param {number} at */
function runLength(characters, at) {
  const first = characters[at];
  if (first === '"') return 1;
  if (first !== "*" && first !== "`") return 0;
  let length = 1;
  while (length < LONGEST_RUN && characters[at + length] === first) length++;
  return length;
}
