// TeX inside Markdown: $..$, $$..$$, \(..\), \[..\], found by the parser so that code stays code.

import katex from "katex";
import type { MarkdownIt } from "markdown-it";

const PAIRS: readonly [open: string, close: string, display: boolean][] = [
  ["$$", "$$", true],
  ["\\[", "\\]", true],
  ["\\(", "\\)", false],
];
const KEPT = 400;
const drawn = new Map<string, Node>();

/** The end of a formula in single dollars that begins at `start`, or -1. Dollars of money and of code stay dollars. */
function closingDollar(text: string, start: number): number {
  if (!/\S/.test(text[start + 1] ?? "")) return -1;
  for (let at = start + 1; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "`") return -1;
    else if (text[at] === "$") return /\s/.test(text[at - 1] ?? "") || /\d/.test(text[at + 1] ?? "") ? -1 : at;
  }
  return -1;
}

interface Found { tex: string; end: number; display: boolean }

/** The formula that begins at `at`, if one does and if it is closed. */
function formulaAt(text: string, at: number): Found | null {
  for (const [open, close, display] of PAIRS) {
    if (!text.startsWith(open, at)) continue;
    const end = text.indexOf(close, at + open.length);
    return end < 0 ? null : { tex: text.slice(at + open.length, end), end: end + close.length, display };
  }
  if (text[at] !== "$") return null;
  const end = closingDollar(text, at);
  return end < 0 ? null : { tex: text.slice(at + 1, end), end: end + 1, display: false };
}

export function withMath(md: MarkdownIt): void {
  md.inline.ruler.before("escape", "math", (state, silent) => {
    const found = formulaAt(state.src, state.pos);
    if (!found || !found.tex.trim()) return false;
    if (!silent) {
      const token = state.push("math", "span", 0);
      token.content = found.tex;
      token.meta = { display: found.display };
    }
    state.pos = found.end;
    return true;
  });
  md.block.ruler.before("fence", "math_block", (state, startLine, endLine, silent) => {
    const begin = (state.bMarks[startLine] ?? 0) + (state.tShift[startLine] ?? 0);
    const pair = PAIRS.find(([open, , display]) => display && state.src.startsWith(open, begin));
    if (!pair) return false;
    const close = state.src.indexOf(pair[1], begin + pair[0].length);
    if (close < 0 || state.src.slice(begin, close).includes("\n\n")) return false;
    let line = startLine;
    while (line < endLine && (state.eMarks[line] ?? 0) < close + pair[1].length) line += 1;
    if (line >= endLine || state.src.slice(close + pair[1].length, state.eMarks[line]).trim()) return false;
    if (silent) return true;
    const token = state.push("math", "div", 0);
    token.content = state.src.slice(begin + pair[0].length, close);
    token.meta = { display: true };
    token.block = true;
    token.map = [startLine, line + 1];
    state.line = line + 1;
    return true;
  }, { alt: ["paragraph", "blockquote", "list"] });
  md.renderer.rules["math"] = (tokens, index) => {
    const token = tokens[index];
    const attribute = md.utils.escapeHtml(token?.content ?? "");
    return `<span class="math${token?.meta?.["display"] ? " display" : ""}" data-tex="${attribute}"></span>`;
  };
}

/** Fill the places that `withMath` left. KaTeX builds elements, so nothing of the formula is ever read as HTML. */
export function drawMath(root: DocumentFragment): void {
  for (const place of root.querySelectorAll<HTMLElement>("span.math[data-tex]")) {
    const tex = place.dataset["tex"] ?? "";
    place.setAttribute("role", "math");
    place.setAttribute("aria-label", tex);
    place.replaceChildren(formula(tex, place.classList.contains("display")));
    place.removeAttribute("data-tex");
  }
}

function formula(tex: string, displayMode: boolean): Node {
  const key = `${displayMode}${tex}`;
  let node = drawn.get(key);
  if (!node) {
    const home = document.createElement("span");
    try {
      katex.render(tex, home, { displayMode, throwOnError: true, output: "html", trust: false, strict: "ignore",
        maxSize: 20, maxExpand: 300 });
    } catch {
      home.textContent = tex; // what cannot be set is shown as it was written
      home.className = "unset";
    }
    node = home;
    if (drawn.size >= KEPT) drawn.clear();
    drawn.set(key, node);
  }
  return node.cloneNode(true);
}

/** How much of a text that is still being written can be shown: a formula that is open waits until it is closed. */
export function settled(text: string): number {
  let at = 0;
  while (at < text.length) {
    const fence = /^(`{3,}|~{3,})[^\n]*\n?/.exec(text.slice(at, at + 200));
    if (fence && (at === 0 || text[at - 1] === "\n")) {
      const end = text.indexOf(`\n${fence[1]}`, at + fence[0].length - 1);
      if (end < 0) return text.length;
      at = end + 1 + (fence[1]?.length ?? 0);
      continue;
    }
    const character = text[at];
    if (character === "`") {
      const ticks = /^`+/.exec(text.slice(at))?.[0] ?? "`";
      const end = text.indexOf(ticks, at + ticks.length);
      at = end < 0 ? at + ticks.length : end + ticks.length;
    } else if (character === "\\" || character === "$") {
      const found = formulaAt(text, at);
      if (found) at = found.end;
      else if (opens(text, at)) return at;
      else at += character === "\\" ? 2 : 1;
    } else {
      at += 1;
    }
  }
  return text.length;
}

/** Whether what begins at `at` may become a formula: not money, not a paragraph ago. */
function opens(text: string, at: number): boolean {
  const rest = text.slice(at);
  if (/^(\$\$|\\\[|\\\()/.test(rest)) return !rest.includes("\n\n");
  return /^\$[^\s\d$]/.test(rest) && !rest.slice(1).includes("$") && !rest.includes("\n") && rest.length < 160;
}
