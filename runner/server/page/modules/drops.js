// Files dropped on the page, or chosen: cards, lorebooks and stories.

import { upload } from "./api.js";
import { attempt, notice } from "./notices.js";
import { importStory, loadLibrary } from "./stories.js";

export const ACCEPTED = ".png,.json,.charx,.jsonl";

export function installDrops() {
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.documentElement.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.documentElement.classList.remove("dropping");
  });
  addEventListener("drop", (event) => {
    document.documentElement.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    void takeFiles([...(event.dataTransfer?.files ?? [])]);
  });
}

/** Add files to the library; a `.jsonl` is a story. @param {File[]} files */
export async function takeFiles(files) {
  for (const file of files) {
    if (/\.jsonl$/iu.test(file.name)) await importStory(file);
    else await addToLibrary(file);
  }
  await loadLibrary();
}

/** @param {File} file */
async function addToLibrary(file) {
  const kind = (await isLorebook(file)) ? "lorebooks" : "cards";
  const path = `/api/${kind}?file=${encodeURIComponent(file.name)}`;
  const found = await attempt(() => upload(path, file));
  if (found) notice(`“${found.name}” is in the library.`);
}

/** A JSON file with entries and without a card's fields is a lorebook. @param {File} file */
async function isLorebook(file) {
  if (!/\.json$/iu.test(file.name)) return false;
  try {
    const found = JSON.parse(await file.text());
    return "entries" in found && !("spec" in found) && !("first_mes" in found);
  } catch {
    return false;
  }
}
