// Keys that work anywhere on the page.

import { answer, stop } from "./answering.js";
import { choose } from "./blind.js";
import { turnTo } from "./messages.js";
import { now, set } from "./store.js";
import { open } from "./stories.js";

/** What the help lists. @type {[string, string][]} */
export const KEYS = [
  ["Enter", "send (Shift+Enter: new line; on a phone Enter is a new line)"],
  ["Ctrl+Enter", "send, or continue where nothing is written; keep an edited message"],
  ["Esc", "stop the answer; close what is open; leave the reading view"],
  ["Alt+← Alt+→", "another swipe of the last answer; after the last a new one is written"],
  ["Alt+← Alt+→", "between two answers: A is better, B is better"],
  ["Alt+L", "the list of stories"],
  ["← → in word view", "the word before or after; Enter shows its alternatives"],
];

export function installKeys() {
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") onEscape(event);
    else if (event.altKey && event.key === "ArrowLeft") act(event, () => swipe(-1));
    else if (event.altKey && event.key === "ArrowRight") act(event, () => swipe(1));
    else if (event.altKey && event.code === "KeyL") act(event, toggleList);
  });
}

/** Show the swipe before or after the last answer's; after its last, write one. @param {number} step */
export function swipe(step) {
  const { story, answering, round } = now();
  if (round) return void choose(step < 0 ? "first" : "second");
  const index = story?.messages.length ? story.messages.length - 1 : -1;
  const message = story?.messages[index];
  if (!message || answering || message.role !== "assistant") return;
  const place = message.swipe + step;
  if (place >= message.swipes.length) void answer("again");
  else if (place >= 0) void turnTo(index, place);
}

export const toggleList = () => set({ listIsOpen: !now().listIsOpen });

/** @param {KeyboardEvent} event @param {() => void} what */
function act(event, what) {
  if (event.target instanceof HTMLTextAreaElement && event.target.value) return;
  event.preventDefault();
  what();
}

/** @param {KeyboardEvent} event */
function onEscape(event) {
  if (event.defaultPrevented || now().dialog) return;
  const { answering, listIsOpen, panel, view, story } = now();
  if (answering) void stop();
  else if (listIsOpen) set({ listIsOpen: false });
  else if (panel) set({ panel: "" });
  else if (view !== "write" && story) open(story.name);
}
