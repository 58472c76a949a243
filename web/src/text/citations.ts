// Citations in what a model wrote: the server says where they stand and whether they hold; here they become buttons.

import type { Mark } from "../types";

// Characters that mean nothing to anybody stand for the n-th mark while Markdown is parsed.
const OPEN = "\uE000";
const CLOSE = "\uE001";
const PLACE = /\uE000(\d+)\uE001/;

const WORDS: Record<Mark["kind"], string> = { quoted: "", worded: "", bare: "", missing: "not in the source",
  unknown: "no such passage", unsourced: "no source" };

/** Where the n-th character stands in a string; the server counts characters, a string counts units of UTF-16. */
export function unitsBefore(text: string, characters: number): number {
  let units = 0;
  for (let n = 0; n < characters && units < text.length; n += 1) units += (text.codePointAt(units) ?? 0) > 0xffff ? 2 : 1;
  return units;
}

/** The text with a place for each of its marks. */
export function placed(text: string, marks: Mark[] | undefined): string {
  if (!marks?.length) return text;
  const letters = Array.from(text);
  const bare = (from: number, to: number) => letters.slice(from, to).join("").replaceAll(OPEN, "").replaceAll(CLOSE, "");
  let at = 0;
  const pieces = marks.map(({ start, stop }, n) => {
    const before = bare(at, start);
    at = stop;
    return `${before}${OPEN}${n}${CLOSE}`;
  });
  return pieces.join("") + bare(at, letters.length);
}

/** Every place in a fragment as what stands there; `open` shows the passage of a citation. */
export function drawMarks(fragment: DocumentFragment, marks: Mark[], open: (mark: Mark) => void): void {
  const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  const texts: Text[] = [];
  while (walker.nextNode()) if (PLACE.test(walker.currentNode.textContent ?? "")) texts.push(walker.currentNode as Text);
  for (const text of texts) {
    // Split at the places: what stands between them comes at even positions, numbers of marks at odd ones.
    const parts = (text.textContent ?? "").split(new RegExp(PLACE, "g"));
    text.replaceWith(...parts.map((part, n) => {
      const mark = n % 2 ? marks[Number(part)] : undefined;
      return mark ? drawn(mark, open) : part;
    }));
  }
}

function drawn(mark: Mark, open: (mark: Mark) => void): HTMLElement {
  const words = WORDS[mark.kind];
  const cited = mark.kind !== "unsourced" && mark.kind !== "unknown";
  const element = document.createElement(cited ? "button" : "span");
  element.className = `cite ${mark.kind}`;
  element.title = mark.why;
  element.textContent = [mark.number, words].filter((part) => part !== undefined && part !== "").join(" ");
  if (element instanceof HTMLButtonElement) {
    element.type = "button";
    element.setAttribute("aria-label", `Passage ${mark.number}: ${mark.why}`);
    element.addEventListener("click", () => open(mark));
  }
  return element;
}
