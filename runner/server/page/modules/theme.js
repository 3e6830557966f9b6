// Light or dark: what the system prefers, unless the switch says otherwise.

import { remember } from "./memory.js";
import { now, set } from "./store.js";

/** The switch's stations, in the order in which it goes through them. */
const THEMES = ["", "light", "dark"];

/** @param {string} theme */
export const themeName = (theme) => theme || "auto";

/** @param {string} theme */
export function applyTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

export function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(now().theme) + 1) % THEMES.length];
  set({ theme });
  remember("theme", theme);
  applyTheme(theme);
}
