// A document, or the passage that a citation names, in front of the page.

import { Fragment } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { PAGE_BREAK, reader } from "../documents";
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
  const { title, text, start, stop, page, why, holds } = open;
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
      <div class="text" tabIndex={0}>
        {page !== undefined && <PageNumber number={page} />}
        <Paged text={text.slice(0, from)} first={page} />
        {to > from && <mark ref={passage}><Paged text={text.slice(from, to)} first={after(page, text, from)} /></mark>}
        <Paged text={text.slice(to)} first={after(page, text, to)} />
      </div>
    </dialog>
  );
}

const after = (page: number | undefined, text: string, at: number): number | undefined =>
  page === undefined ? undefined : page + text.slice(0, at).split(PAGE_BREAK).length - 1;

/** A text that begins on page `first`; each further page says its number. */
function Paged({ text, first }: { text: string; first: number | undefined }) {
  if (first === undefined) return <>{text}</>;
  return <>{text.split(PAGE_BREAK).map((part, n) => <Fragment key={n}>{n > 0 && <PageNumber number={first + n} />}{part}</Fragment>)}</>;
}

const PageNumber = ({ number }: { number: number }) => <span class="folio">page {number}</span>;
