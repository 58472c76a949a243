// Documents: added, opened, renamed, deleted, and chosen for the conversation that is looked at.

import { useState } from "preact/hooks";
import { addFiles, addText, choose, chosenDocuments, documents, dropDocument, openDocument, renameDocument, taking } from "../documents";
import { examples, settings } from "../state";
import { bytes } from "../text/words";
import type { Document } from "../types";

export function Documents() {
  const [pasting, paste] = useState(false);
  const { listed, most } = documents.value;
  return (
    <section class="options documents" aria-label="Documents" onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        void addFiles(Array.from(event.dataTransfer?.files ?? []));
      }}>
      <p class="wide">
        {examples.value.task
          ? "This model knows one kind of problem and reads no documents."
          : "Answers of this conversation come from the documents that are ticked, and their citations are verified."}
      </p>
      <ul class="wide shelf">
        {listed.map((one) => <Entry key={one.id} one={one} />)}
        {listed.length === 0 && <li class="none">No documents yet.</li>}
      </ul>
      {pasting ? <Paste done={() => paste(false)} /> : (
        <p class="wide adding">
          <label class="file">Add files
            <input type="file" multiple onChange={({ currentTarget: field }) => {
              const files = Array.from(field.files ?? []);
              field.value = "";
              void addFiles(files);
            }} />
          </label>
          <button type="button" onClick={() => paste(true)}>Paste a text</button>
          {taking.value
            ? <span role="status">Reading {taking.value} …</span>
            : <span>PDF with text in it, and plain text: .txt, .md, .csv, .json, code. At most {bytes(most.pdf_bytes)} a PDF
              and {bytes(most.bytes)} a text, {most.documents} in all.</span>}
        </p>
      )}
    </section>
  );
}

function Entry({ one }: { one: Document }) {
  const [renaming, ask] = useState(false);
  const [sure, make] = useState(false);
  if (renaming) {
    return (
      <li>
        <form class="renaming" onSubmit={(event) => {
          event.preventDefault();
          void renameDocument(one.id, String(new FormData(event.currentTarget).get("title")));
          ask(false);
        }}>
          <input name="title" aria-label="Title of the document" defaultValue={one.title} maxLength={200} ref={(field) => field?.focus()}
            onKeyDown={(event) => { if (event.key === "Escape") { event.stopPropagation(); ask(false); } }} onBlur={() => ask(false)} />
        </form>
      </li>
    );
  }
  return (
    <li>
      <label class="pick">
        <input type="checkbox" checked={settings.value.documents.includes(one.id)}
          onChange={(event) => void choose(one.id, event.currentTarget.checked)} />
        <span class="title">{one.title}</span>
      </label>
      <span class="acts">
        <span class="size">{bytes(one.bytes)}</span>
        <button type="button" aria-label={`Open ${one.title}`} onClick={() => void openDocument(one)}>Open</button>
        <button type="button" aria-label={`Rename ${one.title}`} onClick={() => ask(true)}>Rename</button>
        <button type="button" class="bad" onBlur={() => make(false)} aria-label={sure ? undefined : `Delete ${one.title}`}
          onClick={() => (sure ? void dropDocument(one.id) : make(true))}>{sure ? "Really delete?" : "Delete"}</button>
      </span>
    </li>
  );
}

function Paste({ done }: { done: () => void }) {
  const [title, name] = useState("");
  const [text, write] = useState("");
  return (
    <form class="wide pasting" onSubmit={(event) => {
      event.preventDefault();
      void addText(title.trim() || text.trim().split("\n", 1)[0]?.slice(0, 60) || "", text).then((added) => { if (added) done(); });
    }}>
      <label>Title
        <input value={title} maxLength={200} placeholder="its first line" onInput={(event) => name(event.currentTarget.value)} />
      </label>
      <label>Text
        <textarea rows={6} value={text} ref={(field) => { if (field && !text) field.focus(); }}
          onInput={(event) => write(event.currentTarget.value)} />
      </label>
      <p class="adding">
        <button type="submit" class="strong" disabled={!text.trim()}>Add the text</button>
        <button type="button" onClick={done}>Cancel</button>
      </p>
    </form>
  );
}

/** Above the field where one writes: what the next answer comes from. */
export function Chosen({ show }: { show: () => void }) {
  const chosen = chosenDocuments();
  if (chosen.length === 0) return null;
  return (
    <button type="button" class="chosen" onClick={show}>
      Answers from {chosen.map((one) => `“${one.title}”`).join(", ")}
    </button>
  );
}
