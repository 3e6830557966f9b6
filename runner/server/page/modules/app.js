// The page's frame: the list of stories, the story in one of its views, and a panel beside it.

import { html } from "../vendor/htm-preact.js";
import { BlindPanel } from "./blind_panel.js";
import { Composer } from "./composer.js";
import { ContextPanel } from "./context_panel.js";
import { ExportDialog, HelpDialog, KeyDialog } from "./dialogs.js";
import { toggleList } from "./keys.js";
import { LibraryPanel } from "./library_panel.js";
import { NewStoryDialog } from "./new_story.js";
import { dismiss } from "./notices.js";
import { NotebookView } from "./notebook_view.js";
import { ChoiceBar } from "./round_view.js";
import { SamplingPanel } from "./sampling_panel.js";
import { set, useStore } from "./store.js";
import { open } from "./stories.js";
import { StoryList } from "./story_list.js";
import { StoryPanel } from "./story_panel.js";
import { StoryView } from "./story_view.js";
import { TreeView } from "./tree_view.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Panel} Panel */
/** @typedef {import("./types.js").View} View */

/** @type {[View, string][]} */
const VIEWS = [["write", "Write"], ["notebook", "Notebook"], ["read", "Read"], ["tree", "Branches"]];
/** @type {[Panel, string][]} */
const PANELS = [
  ["story", "Story"], ["library", "Library"], ["sampling", "Sampling"], ["context", "Context"], ["blind", "Blind"],
];
const CONTENT = {
  story: StoryPanel, library: LibraryPanel, sampling: SamplingPanel, context: ContextPanel,
  blind: BlindPanel,
};
const DIALOGS = { key: KeyDialog, new: NewStoryDialog, export: ExportDialog, help: HelpDialog };

/** @param {{begin: () => void}} props */
export function App({ begin }) {
  const state = useStore();
  const Content = state.panel && CONTENT[state.panel];
  const Dialog = state.dialog && DIALOGS[state.dialog];
  const classes = ["frame", `view-${state.view}`, state.listIsOpen && "list-open", Content && "panel-open"];
  return html`
    <div class=${classes.filter(Boolean).join(" ")}>
      <a class="skip" href="#story" onClick=${skip}>Skip to the story</a>
      <${TopBar} state=${state} />
      <${StoryList} state=${state} />
      <main id="story" tabindex="-1"><${Middle} state=${state} /></main>
      ${Content && html`<${SidePanel} panel=${state.panel}><${Content} state=${state} /><//>`}
      <${Notices} state=${state} />
    </div>
    ${Dialog && html`<${Dialog} state=${state} begin=${begin} />`}
  `;
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("story")?.focus();
}

/** @param {{state: State}} props */
function TopBar({ state }) {
  const { story, view, panel } = state;
  if (story && view === "read") return html`<${ReadingBar} story=${story} />`;
  const togglePanel = (/** @type {Panel} */ one) => set({ panel: panel === one ? "" : one });
  return html`
    <header class="bar">
      <button class="quiet list-button" aria-expanded=${state.listIsOpen} aria-controls="stories"
        aria-label="Stories" onClick=${toggleList}>☰</button>
      <h1 title=${story?.name ?? ""}>${story?.name ?? "franken-gguf"}</h1>
      <nav aria-label="Views" class="tabs" hidden=${!story}>
        ${VIEWS.map(([one, label]) => html`
          <button key=${one} aria-current=${view === one ? "page" : null}
            onClick=${() => story && open(story.name, one)}>${label}</button>`)}
        <button onClick=${() => set({ dialog: "export" })}>Export…</button>
      </nav>
      <nav aria-label="Panels" class="tabs">
        ${PANELS.filter(([one]) => isOffered(one, state)).map(([one, label]) => html`
          <button key=${one} aria-expanded=${panel === one} aria-controls="panel"
            onClick=${() => togglePanel(one)}>${label}</button>`)}
      </nav>
    </header>
  `;
}

/** @param {Panel} panel @param {State} state */
function isOffered(panel, { story, desk }) {
  if (panel === "blind") return typeof desk?.choices === "number";
  return Boolean(story) || panel === "library" || panel === "sampling";
}

/** @param {{story: import("./types.js").Story}} props */
function ReadingBar({ story }) {
  return html`
    <header class="bar reading">
      <h1>${story.name}</h1>
      <button class="quiet" onClick=${() => open(story.name)}>Back to writing</button>
    </header>
  `;
}

/** @param {{state: State}} props */
function Middle({ state }) {
  if (!state.desk) return html`<p class="hint">One moment…</p>`;
  if (!state.story) return html`<${Welcome} state=${state} />`;
  if (state.view === "notebook") return html`<${NotebookView} key=${state.story.name} state=${state} />`;
  if (state.view === "tree") return html`<${TreeView} state=${state} />`;
  return html`
    <${StoryView} key=${state.story.name} state=${state} />
    ${state.view === "write" && html`<${Turn} state=${state} />`}
  `;
}

/** Your turn: to choose between two answers, or to write. @param {{state: State}} props */
function Turn({ state }) {
  const { round, story } = state;
  return round && round.story === story?.name
    ? html`<${ChoiceBar} state=${state} round=${round} />`
    : html`<${Composer} key=${story?.name} state=${state} />`;
}

/** @param {{state: State}} props */
function Welcome({ state }) {
  return html`
    <div class="welcome">
      <h2>${state.stories.length ? "Which story today?" : "An empty desk."}</h2>
      <p>Begin a story, or drop a character card, a lorebook or a SillyTavern chat anywhere on this page.</p>
      <button class="primary" onClick=${() => set({ dialog: "new" })}>New story…</button>
      <p class="small">${state.desk?.model}, ${state.desk?.n_ctx.toLocaleString("en")} tokens of context</p>
    </div>
  `;
}

/** @param {{panel: string, children?: unknown}} props */
function SidePanel({ panel, children }) {
  const name = PANELS.find(([one]) => one === panel)?.[1];
  return html`
    <aside id="panel" class="panel" aria-label=${name}>
      <header><h2>${name}</h2>
        <button class="quiet" aria-label="Close ${name}" onClick=${() => set({ panel: "" })}>✕</button></header>
      ${children}
    </aside>
  `;
}

/** @param {{state: State}} props */
function Notices({ state }) {
  return html`
    <div class="notices" role="status">
      ${state.notices.map((one) => html`
        <p key=${one.id} class=${one.isError ? "error" : ""} role=${one.isError ? "alert" : null}>
          ${one.text}
          <button class="quiet" aria-label="Dismiss" onClick=${() => dismiss(one.id)}>✕</button>
        </p>`)}
    </div>
  `;
}
