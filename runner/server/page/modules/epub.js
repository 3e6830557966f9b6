// A story as an EPUB 3 book of one chapter (https://www.w3.org/TR/epub-33). Pure but for the date.

import { zip } from "./zip.js";

/** @typedef {import("./types.js").Story} Story */

const CONTAINER = `<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>`;
const STYLE = "p { margin: 0; text-indent: 1.2em } .asked { font-style: italic } h1 { margin: 2em 0 }";

/** @param {Story} story @param {boolean} narratorOnly whether the user's messages are left out */
export function epub(story, narratorOnly) {
  const told = story.messages.filter(
    ({ role }) => role === "assistant" || (role === "user" && !narratorOnly),
  );
  const body = told.map(({ role, text }) => paragraphs(text, role === "user" ? "asked" : ""));
  const authors = story.speakers.length ? story.speakers : ["franken-gguf"];
  return zip([
    ["mimetype", "application/epub+zip"],
    ["META-INF/container.xml", CONTAINER],
    ["book.opf", packageOf(story.name, story.revision, authors)],
    ["contents.xhtml", page("Contents", contents(story.name))],
    ["story.xhtml", page(story.name, `<h1>${escaped(story.name)}</h1>\n${body.join("\n")}`)],
    ["style.css", STYLE],
  ]);
}

/** @param {string} text @param {string} kind */
function paragraphs(text, kind) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  const open = kind ? `<p class="${kind}">` : "<p>";
  return lines.map((line) => `${open}${escaped(line)}</p>`).join("\n");
}

/** @param {string} title @param {string} revision @param {string[]} authors */
function packageOf(title, revision, authors) {
  const modified = `${new Date().toISOString().slice(0, 19)}Z`;
  return `<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:franken-gguf:${escaped(revision)}</dc:identifier>
<dc:title>${escaped(title)}</dc:title>
<dc:language>und</dc:language>
${authors.map((name) => `<dc:creator>${escaped(name)}</dc:creator>`).join("\n")}
<meta property="dcterms:modified">${modified}</meta>
</metadata>
<manifest>
<item id="contents" href="contents.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="story" href="story.xhtml" media-type="application/xhtml+xml"/>
<item id="style" href="style.css" media-type="text/css"/>
</manifest>
<spine><itemref idref="story"/></spine>
</package>`;
}

/** @param {string} title */
const contents = (title) =>
  `<nav xmlns:epub="http://www.idpf.org/2007/ops" epub:type="toc"><ol>` +
  `<li><a href="story.xhtml">${escaped(title)}</a></li></ol></nav>`;

/** @param {string} title @param {string} body */
const page = (title, body) => `<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml">
<head><title>${escaped(title)}</title><link rel="stylesheet" href="style.css"/></head>
<body>
${body}
</body>
</html>`;

/** Text for XML, without the characters that it may not hold. @param {string} text */
const escaped = (text) =>
  text
    .toWellFormed()
    .replace(/[^\t\n\r\u0020-\uFFFD\u{10000}-\u{10FFFF}]/gu, "")
    .replace(/[&<>"]/gu, (one) => `&#${one.charCodeAt(0)};`);
