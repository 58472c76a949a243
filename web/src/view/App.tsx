// The page: conversations at the side, the one that is open, how it is answered. Keys for those who like them.

import { useEffect, useState } from "preact/hooks";
import { current, newConversation, runs, stop, writing } from "../state";
import { Composer } from "./Composer";
import { Options } from "./Options";
import { Side } from "./Side";
import { Thread } from "./Thread";
import { Welcome } from "./Welcome";

export function App() {
  const [side, showSide] = useState(false);
  const [options, showOptions] = useState(false);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const chord = event.ctrlKey || event.metaKey;
      if (event.key === "Escape") {
        const reply = writing();
        if (side || options) { showSide(false); showOptions(false); }
        else if (reply) void stop(reply);
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
  }, [side, options]);
  const title = current.value?.title;
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
          <button type="button" aria-expanded={options} onClick={() => showOptions(!options)}>Options</button>
        </header>
        {options && <Options />}
        {current.value ? <Thread /> : <Welcome />}
        <Composer />
        <p class="keys">Enter sends, Shift+Enter begins a line, Esc stops · Ctrl+K searches · Ctrl+Shift+O begins anew</p>
      </main>
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
