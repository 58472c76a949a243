// A turn being put differently: a new branch, the old one stays.

import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
  text: string;
  /** Whose turn it is, as a class; what the field and the button are called. */
  of: "asked" | "replied";
  label: string;
  act: string;
  save: (text: string) => void;
  cancel: () => void;
}

export function Editor({ text, of, label, act, save, cancel }: Props) {
  const [written, write] = useState(text);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  const done = () => { if (written.trim()) save(written); };
  return (
    <form class={`turn ${of} editing`} onSubmit={(event) => { event.preventDefault(); done(); }}>
      <textarea ref={field} aria-label={label} rows={Math.min(12, written.split("\n").length + 1)} value={written}
        onInput={(event) => write(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") { event.stopPropagation(); cancel(); }
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); done(); }
        }} />
      <div class="tools">
        <button type="submit" class="strong">{act}</button>
        <button type="button" onClick={cancel}>Cancel</button>
        <span class="hint">The first version stays; ‹ › leads back to it.</span>
      </div>
    </form>
  );
}
