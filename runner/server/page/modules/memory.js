// What this browser remembers between visits: the key, the theme and the sampling settings.

const PREFIX = "franken-gguf ";

/**
 * What was remembered under a name, if it is like `otherwise`; else that.
 * @template T
 * @param {string} name
 * @param {T} otherwise
 * @returns {T}
 */
export function remembered(name, otherwise) {
  try {
    const found = JSON.parse(localStorage.getItem(PREFIX + name) ?? "null");
    const fits = typeof found === typeof otherwise && found !== null;
    return fits && Array.isArray(found) === Array.isArray(otherwise) ? found : otherwise;
  } catch {
    return otherwise;
  }
}

/** Remember a value; a browser that allows none forgets it. @param {string} name @param {unknown} value */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // a private window may have no storage
  }
}
