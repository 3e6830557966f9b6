// Requests to the server that this page came from, as docs/serving-api.md describes them.

import { remembered } from "./memory.js";

/** An answer of the server that is an error; `status` is 0 if there was no answer. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The path of a story, or of something of it. @param {string} name @param {(string | number)[]} rest */
export const storyPath = (name, ...rest) =>
  ["/api/stories", encodeURIComponent(name), ...rest].join("/");

/**
 * The JSON that answers a request; null where the answer is empty.
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 */
export async function request(method, path, body) {
  const response = await send(method, path, body && JSON.stringify(body), "application/json");
  return response.status === 204 ? null : response.json();
}

/** The JSON that answers an uploaded file. @param {string} path @param {Blob} file */
export const upload = async (path, file) =>
  (await send("POST", path, file, "application/octet-stream")).json();

/** A file of the server. @param {string} path */
export const download = async (path) => (await send("GET", path)).blob();

/**
 * The server-sent events that answer a request. Raises ApiError, also for an `error` event.
 * @param {string} path
 * @param {object} body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<{event: string, data: any}>}
 */
export async function* events(path, body, signal) {
  const response = await send("POST", path, JSON.stringify(body), "application/json", signal);
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const one of blocks.map(parsed)) {
      if (one?.event === "error") throw new ApiError(errorText(one.data), 500);
      if (one) yield one;
    }
  }
}

/** An event's name and data; null for a comment. @param {string} block */
function parsed(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {BodyInit} [body]
 * @param {string} [type]
 * @param {AbortSignal} [signal]
 */
async function send(method, path, body, type, signal) {
  /** @type {Record<string, string>} */
  const headers = body && type ? { "Content-Type": type } : {};
  const key = remembered("key", "");
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("The server does not answer. Is it still running?", 0);
  }
  if (response.ok) return response;
  const found = await response.json().catch(() => null);
  throw new ApiError(errorText(found) || `Error ${response.status}`, response.status);
}

/** @param {any} found */
function errorText(found) {
  return String(found?.error?.message ?? "");
}
