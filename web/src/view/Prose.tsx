// Markdown on the page. While it is being written only its last block changes, and an open formula waits.

import { memo } from "preact/compat";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { drawMarks, placed } from "../text/citations";
import { blocks, drawBlock, type References } from "../text/markdown";
import { settled } from "../text/math";
import type { Mark } from "../types";

interface Marked {
  marks: Mark[] | undefined;
  /** Open the passage of a citation. */
  show: (mark: Mark) => void;
}

interface BlockProps extends Marked { source: string; references: References; named: string }

const Block = memo(({ source, references, marks, show }: BlockProps) => {
  const home = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const drawn = drawBlock(source, references);
    if (marks) drawMarks(drawn, marks, show);
    home.current?.replaceChildren(drawn);
  }, [source, marks]);
  return <div class="block" ref={home} />;
}, (before, after) => before.source === after.source && before.named === after.named && before.marks === after.marks);

export function Prose({ text, open, marks, show }: Marked & { text: string; open: boolean }) {
  const shown = open ? text.slice(0, settled(text)) : placed(text, marks);
  const { sources, references } = useMemo(() => blocks(shown), [shown]);
  const named = Object.keys(references).join(" ");
  return (
    <div class={`prose${open ? " open" : ""}`}>
      {sources.map((source, n) => <Block key={n} source={source} references={references} named={named} marks={marks} show={show} />)}
      {open && shown.length < text.length && <span class="waiting" aria-label="a formula is being written">…</span>}
    </div>
  );
}
