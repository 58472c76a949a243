// A document, or the passage that a citation names, in front of the page.

import { useEffect, useRef } from "preact/hooks";
import { reader } from "../documents";
import { unitsBefore } from "../text/citations";

export function Reader() {
  const open = reader.value;
  const dialog = useRef<HTMLDialogElement>(null);
  const passage = useRef<HTMLElement>(null);
  useEffect(() => {
    if (open && !dialog.current?.open) dialog.current?.showModal();
    if (!open) dialog.current?.close();
    passage.current?.scrollIntoView({ block: "center" });
  }, [open]);
  if (!open) return null;
  const { title, text, start, stop, why, holds } = open;
  const from = unitsBefore(text, start);
  const to = from + unitsBefore(text.slice(from), stop - start);
  return (
    <dialog ref={dialog} class="reader" aria-label={title} onClose={() => { reader.value = null; }}
      onClick={(event) => { if (event.target === dialog.current) dialog.current?.close(); }}>
      <header>
        <h2>{title}</h2>
        <button type="button" aria-label="Close the document" onClick={() => dialog.current?.close()}>✕</button>
      </header>
      {why && <p class={holds ? "why" : "why doubt"}>{why}.</p>}
      {open.note && <p class="why">{open.note}</p>}
      <div class="text" tabIndex={0}>{text.slice(0, from)}{to > from && <mark ref={passage}>{text.slice(from, to)}</mark>}{text.slice(to)}</div>
    </dialog>
  );
}
