// The story's messages, the one that is being written last, and what of it a screen reader says.

import { html, useEffect, useLayoutEffect, useMemo, useRef } from "../vendor/htm-preact.js";
import { MessageView } from "./message_view.js";
import { before, RoundView } from "./round_view.js";
import { Spoken } from "./spoken.js";
import { joined } from "./words.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Message} Message */

const NEAR = 120; // pixels from the end that still count as reading along

/** @param {{state: State}} props */
export function StoryView({ state }) {
  const { story, answering, view } = state;
  const bottom = useStickyEnd(state);
  if (!story) return null;
  const isMine = answering?.story === story.name;
  const { messages } = story;
  const round = state.round?.story === story.name && !isMine && view === "write" ? state.round : null;
  const shown = isMine
    ? withAnswer(messages, answering)
    : round ? before(messages, round, story.user) : messages;
  return html`
    <div class="scroll" ref=${bottom}>
      <section class="page" aria-busy=${isMine} aria-label="The story">
        ${view !== "read" && story.remarks.map((one) => html`<p class="remark">${one}</p>`)}
        ${shown.map((message, index) => {
          const isLive = isMine && index === answering.index;
          const isFirstKept = story.forgotten > 0 && index === story.forgotten && view !== "read";
          return html`
            ${isFirstKept && html`<p class="remark" key="kept">The model no longer reads what is above this line.</p>`}
            <${Kept} key=${index} message=${message} index=${index} live=${isLive ? answering : null}
              isLast=${index === shown.length - 1} isBusy=${Boolean(answering || round)} view=${view} />`;
        })}
        ${round && html`<${RoundView} round=${round} />`}
        ${!shown.length && !round && html`<p class="hint">The first words are yours.</p>`}
      </section>
    </div>
    <${Spoken} text=${isMine ? joined(answering.words.slice(answering.first)) : ""} />
  `;
}

/** A message that is drawn again only if something of it has changed. @param {any} props */
function Kept({ message, index, live, isLast, isBusy, view }) {
  return useMemo(
    () => html`<${MessageView} message=${message} index=${index} live=${live} isLast=${isLast}
      isBusy=${isBusy} isRead=${view === "read"} />`,
    [message, index, live, isLast, isBusy, view],
  );
}

/**
 * The messages with the running answer among them.
 * @param {Message[]} messages
 * @param {import("./types.js").Answering} answering
 */
function withAnswer(messages, answering) {
  const { index, speaker } = answering;
  /** @type {Message} */
  const empty = {
    role: "assistant", name: speaker, text: "", date: "", swipes: [""], swipe: 0, branches: [],
  };
  return index < messages.length ? messages : [...messages, empty];
}

/** Keeps the end in sight while one reads along, and begins there. @param {State} state */
function useStickyEnd(state) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const isAtEnd = useRef(true);
  const count = state.story?.messages.length ?? 0;
  useEffect(() => {
    const scroll = element.current;
    if (!scroll) return undefined;
    const look = () => {
      isAtEnd.current = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR;
    };
    scroll.addEventListener("scroll", look, { passive: true });
    return () => scroll.removeEventListener("scroll", look);
  }, []);
  useLayoutEffect(() => {
    if (element.current && isAtEnd.current) element.current.scrollTop = element.current.scrollHeight;
  }, [state.answering, count, state.story?.name]);
  useLayoutEffect(() => {
    const scroll = element.current;
    if (scroll) scroll.scrollTop = state.view === "read" ? 0 : scroll.scrollHeight;
  }, [state.view]);
  return element;
}
