// One answer: asked for, shown while it is written, stopped, kept.

import { events, request, storyPath } from "./api.js";
import { attempt, notice } from "./notices.js";
import { now, set } from "./store.js";
import { load, loadStories, open, show } from "./stories.js";
import { asWords, joined, keepWords, wordsOf } from "./words.js";

/** @typedef {import("./types.js").Answering} Answering */
/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Word} Word */
/** @typedef {"ask" | "again" | "continue" | "speak" | "instead"} Action */

const PATIENCE = 5000; // milliseconds for the server to end a stopped answer in good order
const BOTH = "Two models are writing. Both answers appear together.";
let connection = new AbortController();

/**
 * Ask for an answer and show it until it is done. Answers whether it came to its end.
 * @param {Action} action
 * @param {{text?: string, begun?: string, speaker?: string}} [options]
 */
export async function answer(action, options = {}) {
  const { story, answering, round, sampling, bans, maxTokens } = now();
  if (!story || answering || round?.story === story.name) return false;
  const isRound = isBlind();
  const body = { action, ...options, sampling, bans, revision: story.revision };
  const limited = maxTokens ? { ...body, max_tokens: maxTokens } : body;
  const words = wordsBefore(story.messages, action, options.begun);
  showQuestion(action, options.text ?? "");
  const index = now().story?.messages.length ?? 0;
  const place = action === "again" || action === "continue" ? index - 1 : index;
  const speaker = options.speaker ?? story.next_speaker;
  set({
    finish: "",
    answering: { story: story.name, index: place, speaker, words, first: words.length, status: isRound ? BOTH : "" },
  });
  connection = new AbortController();
  const isDone = await attempt(() => follow(storyPath(story.name, isRound ? "round" : "answer"), limited));
  set({ answering: null });
  if (!isDone) await load(story.name);
  void loadStories();
  return isDone === true;
}

/** End the running answer; what has been written stays. */
export async function stop() {
  const { answering } = now();
  if (!answering) return;
  const mine = connection;
  await attempt(() => request("POST", storyPath(answering.story, "stop")));
  setTimeout(() => mine.abort(), PATIENCE);
}

/** @param {string} path @param {object} body */
async function follow(path, body) {
  try {
    for await (const { event, data } of events(path, body, connection.signal)) take(event, data);
  } catch (error) {
    if (!connection.signal.aborted) throw error;
  }
  return now().finish !== "";
}

/** @param {string} event @param {any} data */
function take(event, data) {
  const { answering } = now();
  if (!answering) return;
  if (event === "queue") status(data.position ? `${data.position} before you` : isBlind() ? BOTH : "Reading the story…");
  else if (event === "round") showRound({ ...data, story: answering.story });
  else if (event === "begin") set({ answering: { ...answering, ...data, status: "" } });
  else if (event === "truncated") notice(leftText(data.turns));
  else if (event === "remembered") notice("The turns that left the context were summarized.");
  else if (event === "token") addWord(answering, data);
  else if (event === "experts") addExperts(answering, data.n, data.experts);
  else if (event === "done") finish(answering, data);
}

/** Whether the next turn is answered by two models. */
export const isBlind = () => now().isBlind && typeof now().desk?.choices === "number";

/** Both answers at once. @param {import("./types.js").Round} round */
function showRound(round) {
  set({ answering: null, round, finish: "round" });
  open(round.story);
}

/** @param {string} text */
function status(text) {
  const { answering } = now();
  if (answering) set({ answering: { ...answering, status: text } });
}

/** @param {number} turns */
const leftText = (turns) =>
  `The ${turns === 1 ? "oldest turn has" : `oldest ${turns} turns have`} left the context.`;

/** @param {Answering} answering @param {any} data */
function addWord(answering, data) {
  const { text, probability, alternatives } = data;
  const words = [...answering.words, { text, probability, alternatives }];
  set({ answering: { ...answering, words, status: "" } });
}

/** @param {Answering} answering @param {number} n @param {[number, number][]} experts */
function addExperts(answering, n, experts) {
  const words = [...answering.words];
  const at = answering.first + n;
  if (words[at]) words[at] = { ...words[at], experts };
  set({ answering: { ...answering, words } });
}

/** @param {Answering} answering @param {any} data */
function finish(answering, data) {
  const text = data.story.messages[data.index]?.text ?? "";
  const words = joined(answering.words).trimStart() === text.trimStart() ? answering.words : null;
  if (words) keepWords(text, words);
  else keepWords(text, asWords(text, answering.words));
  show(data.story);
  set({ figures: data.figures, finish: data.finish });
}

/** What stands of the last answer when it is continued. @param {Message[]} messages @param {Action} action @param {string} [begun] */
function wordsBefore(messages, action, begun) {
  if (action !== "continue") return [];
  const text = messages.at(-1)?.text ?? "";
  return asWords(begun ?? text, wordsOf(text) ?? []);
}

/** Show the user's message before the server has it. @param {Action} action @param {string} text */
function showQuestion(action, text) {
  const { story } = now();
  if (!story || (action !== "ask" && action !== "instead")) return;
  const last = story.messages.findLastIndex((message) => message.role === "user");
  const kept = action === "ask" ? story.messages : story.messages.slice(0, Math.max(last, 0));
  /** @type {Message} */
  const question = {
    role: "user", name: story.user, text, date: "", swipes: [text], swipe: 0, branches: [],
  };
  set({ story: { ...story, messages: [...kept, question] } });
}
