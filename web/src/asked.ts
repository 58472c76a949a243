// Which models a message is put to: one, or two that are looked at side by side.

import { current, models, settings } from "./state";
import { repliesTo } from "./tree";
import type { Message } from "./types";

/** The models that a message is put to: the chosen one, and the one beside it. */
export function asked(): string[] {
  const first = settings.value.model ?? models.value[0]?.id;
  const second = models.value.find(({ id }) => id === settings.value.beside && id !== first);
  return [...(first === undefined ? [] : [first]), ...(second ? [second.id] : [])];
}

/** Those of them that have not answered a message yet. */
export function unanswered(message: Message): string[] {
  const replies = current.value ? repliesTo(current.value, message) : [];
  return asked().filter((model) => replies.every((reply) => reply.details.model !== model));
}
