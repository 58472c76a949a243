// The page: conversations at the side, the one that is open, how it is answered. Keys for those who like them.

import { useEffect, useState } from "preact/hooks";
import { chosenDocuments, reader } from "../documents";
import { current, newConversation, runs, stop, writing } from "../state";
import { Composer } from "./Composer";
import { Documents } from "./Documents";
import { Options } from "./Options";
import { Reader } from "./Reader";
import { Side } from "./Side";
import { Thread } from "./Thread";
import { Welcome } from "./Welcome";

export function App() {
  const [side, showSide] = useState(false);
  const [options, showOptions] = useState(false);
  const [shelf, showShelf] = useState(false);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const chord = event.ctrlKey || event.metaKey;
      if (reader.value) return; // what is read in front of the page closes by itself
      if (event.key === "Escape") {
        const replies = writing();
        if (side || options || shelf) { showSide(false); showOptions(false); showShelf(false); }
        else if (replies.length) void stop(replies);
      } else if (chord && event.key.toLowerCase() === "k") {
        event.preventDefault();
        showSide(true);
        document.getElementById("search")?.focus();
      } else if (chord && event.shiftKey && event.key.toLowerCase() === "o") {
        event.preventDefault();
        newConversation();
        document.getElementById("message")?.focus();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [side, options, shelf]);
  const title = current.value?.title;
  const chosen = chosenDocuments().length;
  useEffect(() => { document.title = title ? `${title} · farthing` : "farthing"; }, [title]);
  return (
    <div class={`page${side ? " with-side" : ""}`}>
      <aside class="side" aria-label="Conversations">
        <p class="brand"><Coin /> <span>farthing</span> {runs.value && <a href="/runs">Runs</a>}</p>
        <Side close={() => showSide(false)} />
      </aside>
      {side && <button type="button" class="veil" aria-label="Close the list" onClick={() => showSide(false)} />}
      <main>
        <header class="bar">
          <button type="button" class="only-narrow" aria-label="Conversations" aria-expanded={side} onClick={() => showSide(!side)}>☰</button>
          <span class="heading">{title ?? ""}</span>
          <button type="button" aria-expanded={shelf} onClick={() => { showShelf(!shelf); showOptions(false); }}>
            Documents{chosen ? ` · ${chosen}` : ""}
          </button>
          <button type="button" aria-expanded={options} onClick={() => { showOptions(!options); showShelf(false); }}>Options</button>
        </header>
        {options && <Options />}
        {shelf && <Documents />}
        {current.value ? <Thread /> : <Welcome />}
        <Composer showDocuments={() => showShelf(true)} />
        <p class="keys">Enter sends, Shift+Enter begins a line, Esc stops · Ctrl+K searches · Ctrl+Shift+O begins anew</p>
      </main>
      <Reader />
    </div>
  );
}

/** A small coin with a quarter marked: a farthing is the fourth part of a penny. */
function Coin() {
  return (
    <svg class="coin" width="18" height="18" viewBox="0 0 18 18" aria-hidden="true">
      <circle cx="9" cy="9" r="7.6" /><path d="M9 9V1.4A7.6 7.6 0 0 1 16.6 9Z" />
    </svg>
  );
}
