// One turn: what was said, what can be done with it, and what it cost.

import { memo } from "preact/compat";
import { useState } from "preact/hooks";
import { unanswered } from "../asked";
import { answer, busy, compare, current, goOn, lookAt, regenerate, rewrite, say } from "../state";
import { openSource } from "../documents";
import { copy } from "../text/markdown";
import { repliesTo } from "../tree";
import { plain, rate, seconds } from "../text/words";
import type { Message as Turn } from "../types";
import { Editor } from "./Editor";
import { Prose } from "./Prose";
import { Sources } from "./Sources";
import { Thinking } from "./Thinking";

interface Props {
  message: Turn;
  /** The ids of the messages in its place, itself included; a string, so that an unchanged turn is not drawn again. */
  places: string;
  others: Turn[];
  isLast: boolean;
}

export const Message = memo((props: Props) => (
  props.message.role === "user" ? <Asked {...props} /> : <Replied {...props} />
), (a, b) => a.message === b.message && a.places === b.places && a.isLast === b.isLast);

function Asked({ message, others, isLast }: Props) {
  const [editing, edit] = useState(false);
  const missing = isLast && !busy.value ? unanswered(message) : [];
  if (editing) {
    return <Editor text={message.content} of="asked" label="Edit your message" act="Ask again" cancel={() => edit(false)}
      save={(text) => {
        edit(false);
        void say(text, message.parent);
      }} />;
  }
  return (
    <article class="turn asked" aria-label="You">
      <div class="said">{message.content}</div>
      <div class="tools">
        <Branches message={message} others={others} />
        <Copy text={message.content} />
        <button type="button" data-act="edit" onClick={() => edit(true)}>Edit</button>
        {missing.length > 0 && <button type="button" class="strong" onClick={() => void answer(message)}>
          {current.value && repliesTo(current.value, message).length > 0 ? `Ask ${missing.join(", ")} too` : "Answer this"}
        </button>}
      </div>
    </article>
  );
}

function Replied({ message, others }: Props) {
  const [editing, edit] = useState(false);
  const open = message.live !== undefined;
  if (editing) {
    return <Editor text={message.content} of="replied" label="Edit the model's answer" act="Keep" cancel={() => edit(false)}
      save={(text) => {
        edit(false);
        void rewrite(message, text);
      }} />;
  }
  const models = new Set(others.flatMap(({ details }) => (details.edited ? [] : details.model ?? [])));
  const cut = message.finish === "length" || message.finish === "stopped" || message.finish === "interrupted";
  return (
    <article class="turn replied" aria-label="Model" aria-busy={open}>
      <Thinking message={message} />
      {message.content && <Prose text={message.content} open={open} marks={open ? undefined : message.details.marks} show={(mark) => {
        const source = message.details.sources?.[(mark.number ?? 0) - 1];
        if (source) void openSource(source, mark);
      }} />}
      <Verdict message={message} />
      <Sources message={message} />
      {cut && <p class="cut">{cutWords(message)}</p>}
      {!open && (
        <div class="tools">
          <Branches message={message} others={others} />
          {message.content && <Copy text={message.content} />}
          <button type="button" onClick={() => edit(true)}>Edit</button>
          <button type="button" onClick={() => void regenerate(message)}>Regenerate</button>
          {models.size > 1 && <button type="button" onClick={() => void compare(message)}>Side by side</button>}
          {(cut || message.details.edited) && <button type="button" class="strong" onClick={() => void goOn(message)}>Continue</button>}
        </div>
      )}
      <Numbers message={message} />
    </article>
  );
}

function Verdict({ message }: { message: Turn }) {
  const verdict = message.details.verdict;
  if (verdict === undefined || message.live) return null;
  const words = { right: ["✓", "right"], wrong: ["✕", "wrong"], unscored: ["?", "could not be checked"] }[verdict];
  return <p class={`verdict ${verdict}`}><span aria-hidden="true">{words[0]}</span> {words[1]}</p>;
}

function cutWords({ finish, content, details }: Turn): string {
  if (finish === "length") return content ? "Cut off: the reply reached its longest." : "Cut off while thinking: there was no room left for an answer.";
  if (finish === "stopped") return "Stopped.";
  return details.error ? `Interrupted: ${details.error}.` : "Interrupted: the server ended while this was written.";
}

/** Which of several continuations this is, and the way to the others. */
function Branches({ message, others }: { message: Turn; others: Turn[] }) {
  if (others.length < 2) return null;
  const at = others.findIndex((other) => other.id === message.id);
  const step = (to: number) => () => { const other = others[to]; if (other) void lookAt(other); };
  return (
    <span class="branches" role="group" aria-label="Versions">
      <button type="button" aria-label="Previous version" disabled={at === 0} onClick={step(at - 1)}>‹</button>
      <span>{at + 1} of {others.length}</span>
      <button type="button" aria-label="Next version" disabled={at === others.length - 1} onClick={step(at + 1)}>›</button>
    </span>
  );
}

function Copy({ text }: { text: string }) {
  const [said, tell] = useState("Copy");
  return <button type="button" onClick={() => void copy(text).then((done) => {
    tell(done ? "Copied" : "Not allowed");
    setTimeout(() => tell("Copy"), 1600);
  })}>{said}</button>;
}

function Numbers({ message: { details } }: { message: Turn }) {
  const used = (details.prompt_tokens ?? 0) + (details.tokens ?? 0);
  const parts = [
    details.tokens ? `${plain(details.tokens)} tokens` : null,
    rate(details.tokens_per_second),
    details.first_seconds === undefined ? null : `first after ${seconds(details.first_seconds)}`,
    details.context ? `${plain(used)} of ${plain(details.context)} context` : null,
    details.model ?? null,
    details.edited ? "edited by you" : null,
  ];
  return <p class="numbers">{parts.filter(Boolean).join(" · ")}</p>;
}
