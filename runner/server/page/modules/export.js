// A story as a file: the server's forms, and EPUB, which is made here.

import { epub } from "./epub.js";
import { exported } from "./stories.js";

/** @typedef {import("./types.js").Story} Story */

/** @type {[string, string][]} */
export const FORMS = [
  ["md", "Markdown"], ["txt", "Text"], ["html", "HTML"], ["epub", "EPUB"],
  ["jsonl", "SillyTavern chat (JSONL)"],
];

/** Hand a story over as a download. @param {Story} story @param {string} form @param {boolean} narratorOnly */
export async function save(story, form, narratorOnly) {
  const file = form === "epub" ? await epub(story, narratorOnly) : await exported(form);
  if (!file) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `${story.name}.${form}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
