// Markdown on the page. While it is being written only its last block changes, and an open formula waits.

import { memo } from "preact/compat";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { blocks, drawBlock, type References } from "../text/markdown";
import { settled } from "../text/math";

interface BlockProps { source: string; references: References; named: string }

const Block = memo(({ source, references }: BlockProps) => {
  const home = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => home.current?.replaceChildren(drawBlock(source, references)), [source]);
  return <div class="block" ref={home} />;
}, (before, after) => before.source === after.source && before.named === after.named);

export function Prose({ text, open }: { text: string; open: boolean }) {
  const shown = open ? text.slice(0, settled(text)) : text;
  const { sources, references } = useMemo(() => blocks(shown), [shown]);
  const named = Object.keys(references).join(" ");
  return (
    <div class={`prose${open ? " open" : ""}`}>
      {sources.map((source, n) => <Block key={n} source={source} references={references} named={named} />)}
      {shown.length < text.length && <span class="waiting" aria-label="a formula is being written">…</span>}
    </div>
  );
}
