// Lines about what went wrong or was done, and the one place where errors of requests end.

import { ApiError } from "./api.js";
import { now, set } from "./store.js";

const SECONDS = 6;
const MOST = 4;
let number = 0;

/** Show a line; one that is not an error goes away by itself. @param {string} text @param {boolean} isError */
export function notice(text, isError = false) {
  const id = ++number;
  set({ notices: [...now().notices, { id, text, isError }].slice(-MOST) });
  if (!isError) setTimeout(() => dismiss(id), SECONDS * 1000);
}

/** @type {Promise<unknown>} */
let turn = Promise.resolve();

/**
 * The result of `work`, begun when all earlier work is done: a story takes one change at a time.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export function inTurn(work) {
  const mine = turn.then(work);
  turn = mine.catch(() => {});
  return mine;
}

/** @param {number} id */
export function dismiss(id) {
  set({ notices: now().notices.filter((one) => one.id !== id) });
}

/**
 * The result of `work`. An error becomes a notice, and a missing key a question; then undefined.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T | undefined>}
 */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) set({ dialog: "key" });
    else notice(error.message, true);
    return undefined;
  }
}
