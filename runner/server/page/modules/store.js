// The page's state: one object, replaced on every change, and the view that follows it.

import { useEffect, useReducer } from "../vendor/htm-preact.js";
import { remembered } from "./memory.js";

/** @typedef {import("./types.js").State} State */

/** @type {State} */
let state = {
  desk: null,
  stories: [],
  story: null,
  view: "write",
  panel: "",
  listIsOpen: false,
  answering: null,
  round: null,
  isBlind: remembered("isBlind", false),
  goal: remembered("goal", 10),
  preference: null,
  draft: "",
  figures: null,
  finish: "",
  prompt: null,
  cards: [],
  lorebooks: [],
  sampling: remembered("sampling", {}),
  bans: remembered("bans", []),
  maxTokens: remembered("maxTokens", 0),
  notices: [],
  dialog: "",
  theme: remembered("theme", ""),
};
/** @type {Set<() => void>} */
const listeners = new Set();

export const now = () => state;

/** Change the members that `change` has. @param {Partial<State>} change */
export function set(change) {
  state = { ...state, ...change };
  for (const listener of listeners) listener();
}

/** The state, for a component that is drawn again whenever it changes. */
export function useStore() {
  const [, again] = useReducer((/** @type {number} */ n) => n + 1, 0);
  useEffect(() => {
    const listener = () => again(undefined);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return state;
}
