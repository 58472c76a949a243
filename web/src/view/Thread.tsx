// The branch that is looked at, from top to bottom; it follows what is written unless one has scrolled away.

import { useEffect, useRef } from "preact/hooks";
import { current } from "../state";
import { beside, path, siblings } from "../tree";
import { Beside } from "./Beside";
import { Message } from "./Message";

const NEAR = 90;

export function Thread() {
  const conversation = current.value;
  const home = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const shown = conversation ? path(conversation) : [];
  const last = shown.at(-1);
  const replies = conversation ? beside(conversation) : [];
  useEffect(() => { follows.current = true; }, [conversation?.id, shown.length, replies.length]);
  useEffect(() => {
    if (follows.current && home.current) home.current.scrollTop = home.current.scrollHeight;
  }, [last, replies[0], replies[1]]);
  if (!conversation) return null;
  return (
    <div class="thread" ref={home} tabIndex={-1} onScroll={({ currentTarget: at }) => {
      follows.current = at.scrollHeight - at.scrollTop - at.clientHeight < NEAR;
    }}>
      <div class="column" role="log" aria-label="Conversation">
        {shown.map((message) => {
          const others = siblings(conversation, message);
          return <Message key={message.id} message={message} others={others} places={others.map((one) => one.id).join()}
            isLast={message === last} />;
        })}
        {replies.length > 0 && <Beside replies={replies} />}
      </div>
    </div>
  );
}
