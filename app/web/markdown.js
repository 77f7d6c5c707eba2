// Markdown as elements. What the model writes is not trusted: HTML in it is shown as text, images
// become links, and what is left goes through DOMPurify, on the page's strict content policy.

import { Marked } from "./vendor/marked.esm.js";
import highlighter from "./vendor/highlight.min.js";
import "./vendor/purify.min.js";

const { DOMPurify } = globalThis;

const ALLOWED = {
  ALLOWED_TAGS: [
    ..."p br hr h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a span".split(" "),
    ..."table thead tbody tr th td".split(" "),
  ],
  ALLOWED_ATTR: ["href", "title", "class", "align", "start"],
  ALLOWED_URI_REGEXP: /^(https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? "<br>" : escaped(text)),
    image({ href, text }) {
      return `<a href="${escaped(href)}">${escaped(text || href)}</a>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    code({ text, lang }) {
      const language = lang?.match(/^[\w+#-]+/)?.[0] ?? "";
      const known = highlighter.getLanguage(language);
      const html = known ? highlighter.highlight(text, { language }).value : escaped(text);
      return `<pre><code class="language-${escaped(language)}">${html}\n</code></pre>\n`;
    },
  },
});

/**
 * Show a text in an element. Of a text that has grown only what changed is made anew, so that
 * what one has marked stays marked.
 */
export function render(element, text) {
  const blocks = marked.lexer(text).filter((block) => block.type !== "space");
  blocks.forEach((block, index) => {
    const old = element.children[index];
    if (old?.markdown === block.raw) return;
    const made = blockOf(block);
    if (old) old.replaceWith(made);
    else element.append(made);
  });
  while (element.children.length > blocks.length) element.lastElementChild.remove();
}

function blockOf(block) {
  const element = document.createElement("div");
  element.className = "block";
  element.markdown = block.raw;
  element.append(DOMPurify.sanitize(marked.parser([block]), ALLOWED));
  for (const code of element.querySelectorAll("pre > code")) addHead(code);
  for (const table of element.querySelectorAll("table")) {
    const scroller = document.createElement("div");
    scroller.className = "scroller";
    table.replaceWith(scroller);
    scroller.append(table);
  }
  return element;
}

/** A line above a block of code: its language, and a button that copies it. */
function addHead(code) {
  const head = document.createElement("div");
  head.className = "code-head";
  const name = document.createElement("span");
  name.textContent = code.className.replace("language-", "");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy-code";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy the code");
  head.append(name, button);
  const frame = document.createElement("div");
  frame.className = "code";
  code.parentElement.replaceWith(frame);
  frame.append(head, code.parentElement);
  code.parentElement.tabIndex = 0; // it scrolls
}

function escaped(text) {
  const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}
