// What can be done with the messages of the open story.

import { request, storyPath } from "./api.js";
import { attempt, inTurn } from "./notices.js";
import { now } from "./store.js";
import { load, show } from "./stories.js";

/** @typedef {import("./types.js").Story} Story */

/** @param {number} index @param {string} text */
export const edit = (index, text) => changed("PATCH", `messages/${index}`, { text });

/** @param {number} index @param {number} swipe */
export const turnTo = (index, swipe) => changed("PATCH", `messages/${index}`, { swipe });

/** Remove a message, with all after it if `rest`. @param {number} index @param {boolean} rest */
export const removeMessage = (index, rest) =>
  changed("DELETE", `messages/${index}${rest ? "?rest=true" : ""}`);

/** @param {Story} story @param {{role: string, text: string, name?: string}[]} messages */
export const replaceAll = (story, messages) => changed("PUT", "messages", { messages }, story);

/** Add a text at the end without an answer. @param {string} role @param {string} text */
export const add = (role, text) => changed("POST", "messages", { role, text });

/**
 * Change a story, as it was when `story` was loaded; a body carries its revision. Answers with the
 * story as it is now.
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 * @param {Story | null} story
 * @returns {Promise<Story | undefined>}
 */
const changed = (method, path, body, story = now().story) =>
  inTurn(() => changedNow(method, path, body, story));

/** See `changed`. @param {string} method @param {string} path @param {object | undefined} body @param {Story | null} story */
async function changedNow(method, path, body, story) {
  if (!story) return undefined;
  const made = body && { ...body, revision: story.revision };
  const found = await attempt(() => request(method, storyPath(story.name, path), made));
  const isOpen = now().story?.name === story.name;
  if (isOpen && found) show(found);
  else if (isOpen) await load(story.name);
  return found;
}
