// Two models asked the same: what each of them wrote, side by side, and the choice of the one to go on with.

import { asked } from "../asked";
import { change, lookAt, stop } from "../state";
import type { Message as Turn } from "../types";
import { Message } from "./Message";

export function Beside({ replies }: { replies: Turn[] }) {
  return (
    <div class="beside">
      {replies.map((reply) => (
        <section key={reply.details.model} aria-label={reply.details.model}>
          <div class="whose">
            <h2>{reply.details.model}</h2>
            {reply.live && <button type="button" aria-label={`Stop ${reply.details.model}`} onClick={() => void stop([reply])}>Stop</button>}
            {replies.length > 1 && <button type="button" class="pick" onClick={() => void pick(reply)}>Go on with this one</button>}
          </div>
          <Message message={reply} others={[]} places="" isLast={false} />
        </section>
      ))}
    </div>
  );
}

/** The button goes away, so the focus moves on to where one writes; not where that brings up a keyboard. */
async function pick(reply: Turn): Promise<void> {
  await lookAt(reply);
  if (matchMedia("(hover: hover)").matches) document.getElementById("message")?.focus();
}

/** Beside the field one writes in: that more than one is asked. */
export function AskedBoth() {
  const names = asked();
  if (names.length < 2) return null;
  return (
    <p class="both">Asks {names.join(" and ")}
      <button type="button" onClick={() => void change({ beside: null })}>Ask {names[0]} alone</button>
    </p>
  );
}
