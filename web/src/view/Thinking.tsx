// The thought of a reply: open with a running clock while it lasts, folded to one line when the answer begins.

import { useEffect, useRef, useState } from "preact/hooks";
import { answerNow } from "../state";
import type { Message } from "../types";
import { plain, seconds } from "../text/words";

const WHY = { budget: "stopped at its budget", loop: "stopped: it went in circles", asked: "stopped: you asked for the answer" };

/** The seconds so far, going on between two events of the server. */
function useClock(known: number, running: boolean): number {
  const [, tick] = useState(0);
  const heard = useRef({ known, at: performance.now() });
  if (heard.current.known !== known) heard.current = { known, at: performance.now() };
  useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(() => tick((n) => n + 1), 100);
    return () => clearInterval(timer);
  }, [running]);
  return running ? known + (performance.now() - heard.current.at) / 1000 : known;
}

export function Thinking({ message }: { message: Message }) {
  const running = message.live !== undefined && message.live.state !== "answering" && !message.content;
  const [chosen, choose] = useState<boolean | null>(null);
  const text = useRef<HTMLDivElement>(null);
  const clock = useClock(message.details.thinking_seconds ?? 0, running);
  const open = chosen ?? running;
  useEffect(() => {
    if (running && text.current) text.current.scrollTop = text.current.scrollHeight;
  }, [message.thinking]);
  if (!message.thinking && !running) return null;
  const why = message.details.thought_ended;
  return (
    <div class={`thinking${running ? " running" : ""}`}>
      <div class="line">
        <button type="button" class="fold" aria-expanded={open} onClick={() => choose(!open)}>
          <span class="chevron" aria-hidden="true">›</span>
          <span class="label">{running ? waitingWords(message) : "Thought for"} </span>
          <span class="clock">{seconds(clock)}</span>
          {!running && <span class="more">
            {" · "}{plain(message.details.thinking_tokens)} tokens{why ? ` · ${WHY[why]}` : ""}
          </span>}
        </button>
        {running && message.thinking && (
          <button type="button" class="small" onClick={() => void answerNow(message)}>Answer now</button>
        )}
      </div>
      {open && message.thinking && <div class="thought" ref={text}>{message.thinking}</div>}
    </div>
  );
}

function waitingWords(message: Message): string {
  if (message.live?.state === "loading") return "Loading the model";
  return message.live?.state === "waiting" ? "Waiting" : "Thinking";
}
