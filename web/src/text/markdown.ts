// From what a model wrote to elements. Its text is never HTML (markdown-it without html), what comes of it is sanitised
// all the same, pictures are not loaded, and a link says where it leads before anybody follows it.

import DOMPurify from "dompurify";
import MarkdownIt, { type Env } from "markdown-it";
import { coloured } from "./code";
import { drawMath, withMath } from "./math";

const md = new MarkdownIt({ html: false, linkify: true, typographer: false, breaks: false,
  highlight: coloured });
md.use(withMath);
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
md.renderer.rules["image"] = (tokens, index) => md.utils.escapeHtml(`[picture: ${tokens[index]?.content ?? ""}]`);

const TAGS = ["p", "br", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5",
  "h6", "hr", "table", "thead", "tbody", "tr", "th", "td", "a", "span"];
const ATTRIBUTES = ["href", "class", "start", "data-tex"];

/** Where the links of a document lead that are named elsewhere in it. */
export type References = NonNullable<Env["references"]>;

/** The blocks of a document, each with its own source, so that only those that change are drawn again. */
export function blocks(source: string): { sources: string[]; references: References } {
  const env: Env = {};
  const lines = source.split("\n");
  const sources = md.parse(source, env)
    .filter((token) => token.level === 0 && token.nesting >= 0 && token.map)
    .map((token) => lines.slice(token.map?.[0], token.map?.[1]).join("\n"));
  return { sources, references: env.references ?? {} };
}

/** One block as elements. */
export function drawBlock(source: string, references: References): DocumentFragment {
  const html = md.render(source, { references });
  const fragment = DOMPurify.sanitize(html, { ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ATTRIBUTES, ALLOW_DATA_ATTR: false,
    ADD_URI_SAFE_ATTR: ["data-tex", "start"],
    ALLOW_ARIA_ATTR: false, ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i, RETURN_DOM_FRAGMENT: true });
  drawMath(fragment);
  fragment.querySelectorAll("a").forEach(openly);
  fragment.querySelectorAll("pre").forEach(withCopy);
  fragment.querySelectorAll("table").forEach(scrolling);
  return fragment;
}

/** Links open elsewhere, tell nobody where they were, and show the host they lead to. */
function openly(link: HTMLAnchorElement): void {
  const address = link.getAttribute("href");
  if (!address) return link.replaceWith(...link.childNodes);
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = address;
  const host = URL.canParse(address) ? new URL(address).host : "";
  if (host && !link.textContent?.includes(host)) {
    const shown = document.createElement("span");
    shown.className = "host";
    shown.textContent = ` (${host})`;
    link.append(shown);
  }
}

function withCopy(pre: HTMLPreElement): void {
  const home = document.createElement("div");
  home.className = "code";
  const language = /language-([\w+#-]{1,20})/.exec(pre.firstElementChild?.className ?? "")?.[1];
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.append(Object.assign(document.createElement("span"), { textContent: language ?? "" }), copyButton(pre));
  pre.tabIndex = 0;
  pre.replaceWith(home);
  home.append(bar, pre);
}

function copyButton(pre: HTMLElement): HTMLButtonElement {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
  button.addEventListener("click", () => {
    void copy(pre.textContent ?? "").then((done) => {
      button.textContent = done ? "Copied" : "Not allowed";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  });
  return button;
}

function scrolling(table: HTMLTableElement): void {
  const home = document.createElement("div");
  home.className = "scroll";
  home.tabIndex = 0;
  table.replaceWith(home);
  home.append(table);
}

/** Text to the clipboard; false where the browser does not let us. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
