// Where one writes. Enter sends, Shift+Enter begins a line, Escape stops the reply.

import { useEffect, useRef, useState } from "preact/hooks";
import { busy, current, say, stop, trouble, writing } from "../state";
import { AskedBoth } from "./Beside";
import { Chosen } from "./Documents";

export function Composer({ showDocuments }: { showDocuments: () => void }) {
  const [text, write] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  const replies = writing();
  const ready = text.trim() !== "" && !replies.length && !busy.value;
  useEffect(() => field.current?.focus(), [current.value?.id]);
  useEffect(() => {
    const area = field.current;
    if (!area) return;
    area.rows = Math.min(10, text.split("\n").length);
  }, [text]);
  const send = () => {
    if (!ready) return;
    write("");
    void say(text);
  };
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); send(); }}>
      {trouble.value && (
        <p class="trouble" role="alert">{trouble.value}
          <button type="button" aria-label="Dismiss" onClick={() => { trouble.value = null; }}>✕</button>
        </p>
      )}
      <AskedBoth />
      <Chosen show={showDocuments} />
      <div class="box">
        <textarea id="message" ref={field} rows={1} value={text} placeholder="Ask something" aria-label="Message"
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
          }} />
        {replies.length
          ? <button type="button" class="send stop" onClick={() => void stop(replies)}>Stop</button>
          : <button type="submit" class="send" disabled={!ready}>Send</button>}
      </div>
    </form>
  );
}
