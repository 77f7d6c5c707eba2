// Colours the tokens that were guessed right, without touching the text (CSS custom highlights).

export const areShowable = "highlights" in CSS;

const SOURCES = ["heads", "lookup", "grammar", "other"];
const FAR = 300; // characters of Markdown that may be left out in between: the address of a link

const highlights = new Map(areShowable ? SOURCES.map((source) => [source, new Highlight()]) : []);
const ranges = new Map(); // of each message, [source, range]

/** Whose colour the guesses of a source have. */
export const colourOf = (source) => (SOURCES.includes(source) ? source : "other");

export function show(visible) {
  for (const [source, highlight] of highlights) {
    if (visible) CSS.highlights.set(`guessed-${source}`, highlight);
    else CSS.highlights.delete(`guessed-${source}`);
  }
}

/** Mark what was guessed in a message, in elements that show its text in order. */
export function mark(message, elements, drafts) {
  unmark(message);
  const found = [...guessed(elements, drafts)].map(([source, range]) => [colourOf(source), range]);
  for (const [source, range] of found) highlights.get(source)?.add(range);
  ranges.set(message, found);
}

export function unmark(message) {
  for (const [source, range] of ranges.get(message) ?? []) highlights.get(source)?.delete(range);
  ranges.delete(message);
}

export function unmarkAll() {
  for (const highlight of highlights.values()) highlight.clear();
  ranges.clear();
}

/**
 * Yields [source, range]. What is shown is the tokens' text without Markdown's marks, so each
 * character is looked for in the tokens from where the last one was found.
 */
function* guessed(elements, drafts) {
  const text = drafts.map(([token]) => token).join("");
  let at = -1; // of the last character, in the tokens' text
  let token = 0;
  let end = drafts[0]?.[0].length ?? 0; // of this token's text
  for (const node of textsIn(elements)) {
    let run = null; // {source, begin, end} of what the same source guessed, in a node
    for (let i = 0; i < node.data.length; i++) {
      if (/\s/.test(node.data[i])) continue;
      const found = text.indexOf(node.data[i], at + 1);
      let source = null;
      if (found >= 0 && found - at <= FAR) {
        at = found;
        while (end <= at) end += drafts[++token][0].length;
        source = drafts[token][1];
      }
      if (run && run.source !== source) {
        yield* rangeOf(node, run);
        run = null;
      }
      if (source) run = { source, begin: run?.begin ?? i, end: i + 1 };
    }
    if (run) yield* rangeOf(node, run);
  }
}

function* rangeOf(node, { source, begin, end }) {
  const place = { startContainer: node, startOffset: begin, endContainer: node, endOffset: end };
  yield [source, new StaticRange(place)];
}

function* textsIn(elements) {
  for (const element of elements) {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT, (node) =>
      node.parentElement.closest(".code-head") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
    );
    while (walker.nextNode()) yield walker.currentNode;
  }
}
