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

/** The newest reply of each model to a message; side by side where the message itself is what is looked at. What a person
 *  put differently is no model's. */
export function repliesTo(conversation: Conversation, message: Message): Message[] {
  const newest = new Map<string, Message>();
  for (const reply of conversation.messages) {
    const { model, edited } = reply.details;
    if (reply.parent === message.id && message.role === "user" && model && !edited) newest.set(model, reply);
  }
  return [...newest.values()];
}

/** The replies that stand side by side at the end of the branch. */
export function beside(conversation: Conversation): Message[] {
  const last = path(conversation).at(-1);
  return last ? repliesTo(conversation, last) : [];
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
