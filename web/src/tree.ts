// A conversation is a tree: every message may have several continuations. No drawing, no requests.

import type { Conversation, Message } from "./types";

/** The messages from the first one to the leaf that is looked at. */
export function path(conversation: Conversation): Message[] {
  const byId = new Map(conversation.messages.map((message) => [message.id, message]));
  const found: Message[] = [];
  let at = conversation.leaf === null ? undefined : byId.get(conversation.leaf);
  while (at) {
    found.unshift(at);
    at = at.parent === null ? undefined : byId.get(at.parent);
  }
  return found;
}

/** The message and those that stand in its place on other branches, oldest first. */
export function siblings(conversation: Conversation, message: Message): Message[] {
  return conversation.messages.filter((other) => other.parent === message.parent);
}

/** The newest leaf below a message, or the message itself. */
export function newestBelow(conversation: Conversation, message: Message): Message {
  let at = message;
  for (;;) {
    const next = conversation.messages.filter((other) => other.parent === at.id).at(-1);
    if (!next) return at;
    at = next;
  }
}

/** The conversation with a message put in or replaced. */
export function withMessage(conversation: Conversation, message: Message): Conversation {
  const known = conversation.messages.some((other) => other.id === message.id);
  const messages = known
    ? conversation.messages.map((other) => (other.id === message.id ? message : other))
    : [...conversation.messages, message];
  return { ...conversation, messages };
}
