// Below an answer from documents: whether its citations hold, and what passages it was given.

import { useState } from "preact/hooks";
import { openSource, placeOf } from "../documents";
import type { Mark, Message } from "../types";

const counted = (n: number, one: string, many: string): string => `${n} ${n === 1 ? one : many}`;

export function Sources({ message }: { message: Message }) {
  const [open, unfold] = useState(false);
  const { sources, marks } = message.details;
  if (!sources?.length || message.live) return null;
  return (
    <div class="sources">
      <button type="button" class="fold" aria-expanded={open} onClick={() => unfold(!open)}>
        <span class="chevron" aria-hidden="true">›</span>
        <span>{counted(sources.length, "passage", "passages")} given · {marks ? verdict(marks) : "citations not verified"}</span>
      </button>
      {open && (
        <ol>
          {sources.map((source, n) => (
            <li key={n}>
              <button type="button" onClick={() => void openSource(source)}>
                <span class="number">{n + 1}</span> <span class="title">{placeOf(source.title, source.page, source.text)}</span>
                <span class="excerpt">{source.text}</span>
              </button>
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}

function verdict(marks: Mark[]): string {
  const count = (...kinds: Mark["kind"][]) => marks.filter((mark) => kinds.includes(mark.kind)).length;
  const [quoted, worded, wrong, without] = [count("quoted"), count("worded"), count("missing", "unknown"), count("unsourced")];
  const parts = [
    quoted && `${counted(quoted, "citation", "citations")} word for word`,
    worded && `${worded} in the passage's words`,
    wrong && counted(wrong, "citation does not hold", "citations do not hold"),
    without && counted(without, "sentence without a source", "sentences without a source"),
  ];
  return parts.filter(Boolean).join(" · ") || "nothing cited";
}
