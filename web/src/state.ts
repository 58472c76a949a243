// What the page knows, and everything that a person can do with it.

import { signal } from "@preact/signals";
import { api, listen, Refused } from "./api";
import { beside, newestBelow, path, repliesTo, withMessage } from "./tree";
import { asked, unanswered } from "./asked";
import { refreshDocuments } from "./documents";
import { refreshPresets } from "./presets";
import type { Asked, Conversation, Examples, Message, Model, Settings, Summary } from "./types";

export const NOTHING: Settings = { model: null, beside: null, system: "", effort: null, budget: null, temperature: null, max_tokens: null,
  documents: [] };

export const models = signal<Model[]>([]);
export const conversations = signal<Summary[]>([]);
export const search = signal("");
export const current = signal<Conversation | null>(null);
export const settings = signal<Settings>(NOTHING);
export const examples = signal<Examples>({ task: null, examples: [] });
export const trouble = signal<string | null>(null);
export const busy = signal(false);
/** Whether this server shows runs as well. */
export const runs = signal(false);

const listening = new Map<string, () => void>();

/** Do something; what goes wrong is said on the page. */
export async function attempt(work: () => Promise<void>): Promise<void> {
  trouble.value = null;
  try {
    await work();
  } catch (problem) {
    if (!(problem instanceof Refused)) throw problem;
    trouble.value = problem.message;
  }
}

export async function start(): Promise<void> {
  addEventListener("hashchange", () => void openAddressed());
  await attempt(async () => {
    [models.value, runs.value] = await Promise.all([api.models(), api.hasRuns()]);
    await Promise.all([refreshList(), openAddressed(), refreshDocuments(), refreshPresets()]);
    await refreshExamples();
  });
}

function addressed(): string | null {
  return /^#\/c\/([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
}

async function openAddressed(): Promise<void> {
  const id = addressed();
  if (id === null) return leave();
  if (current.value?.id === id) return;
  await attempt(async () => {
    try {
      show(await api.open(id));
    } catch (problem) {
      newConversation();
      throw problem;
    }
  });
}

function leave(): void {
  for (const stop of listening.values()) stop();
  listening.clear();
  current.value = null;
}

function show(conversation: Conversation): void {
  if (current.value?.id !== conversation.id) leave();
  current.value = conversation;
  settings.value = { ...NOTHING, ...conversation.settings };
  for (const message of conversation.messages) if (message.live) follow(message);
}

export function newConversation(): void {
  leave();
  trouble.value = null;
  settings.value = { ...settings.value, documents: [] };
  if (location.hash) history.pushState(null, "", location.pathname);
  void refreshExamples();
}

export async function refreshList(): Promise<void> {
  conversations.value = await api.list(search.value);
}

export async function refreshExamples(): Promise<void> {
  const model = settings.value.model ?? models.value[0]?.id;
  if (model !== undefined) examples.value = await api.examples(model);
}

function put(message: Message): void {
  if (current.value?.id === message.conversation) current.value = withMessage(current.value, message);
}

/** Keep a message that is being written up to date. */
function follow(message: Message): void {
  listening.get(message.id)?.();
  const stop = listen(message, (event) => {
    if ("message" in event) {
      listening.delete(message.id);
      if (event.message.finish !== "deleted") put(event.message);
      return;
    }
    const known = current.value?.messages.find((other) => other.id === message.id);
    if (!known) return;
    const { thinking, content, details, live } = event;
    put({ ...known, thinking: known.thinking + thinking, content: known.content + content, live,
      details: { ...known.details, ...details } });
  }, () => void attempt(async () => { if (current.value) show(await api.open(current.value.id)); }));
  listening.set(message.id, stop);
}

async function reply(conversation: Conversation, wanted: Asked): Promise<void> {
  const message = await api.reply(conversation.id, wanted);
  put(message);
  if (current.value?.id === conversation.id && !wanted.beside) current.value = { ...current.value, leaf: message.id };
  follow(message);
  await refreshList();
}

/** Have a message answered by every model that is asked; what one of them refuses does not keep the others. */
async function replies(conversation: Conversation, message: Message): Promise<void> {
  if (asked().length === 1) return reply(conversation, { parent: message.id });
  const refused: string[] = [];
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  for (const model of unanswered(message)) {
    try {
      await reply(conversation, { parent: message.id, model, seed: seed ?? null, beside: true });
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      refused.push(`${model}: ${problem.message}`);
    }
  }
  if (refused.length) throw new Refused(400, refused.join(" "));
}

/** Say something below `parent` and have it answered; without a conversation, begin one. */
export async function say(content: string, parent?: string | null): Promise<void> {
  busy.value = true;
  await attempt(async () => {
    let conversation = current.value;
    if (!conversation) {
      conversation = await api.begin(settings.value);
      show(conversation);
      history.pushState(null, "", `#/c/${conversation.id}`);
    }
    const below = parent === undefined ? beside(conversation)[0]?.id ?? conversation.leaf : parent;
    const message = await api.say(conversation.id, below, content);
    current.value = { ...withMessage(conversation, message), leaf: message.id };
    await replies(conversation, message);
  });
  busy.value = false;
}

/** A model's turn as one would have it, on a branch of its own; what is said next stands below it. */
export const rewrite = (message: Message, content: string): Promise<void> => attempt(async () => {
  const edited = await api.rewrite(message, content);
  if (current.value) current.value = { ...withMessage(current.value, edited), leaf: edited.id };
});

/** Another reply; of the same model where it stands beside others, or is one of those that are asked. */
export const regenerate = (message: Message): Promise<void> => attempt(async () => {
  if (!current.value || message.parent === null) return;
  const { model } = message.details;
  const stands = current.value.leaf === message.parent;
  const same = model !== undefined && (stands || asked().includes(model));
  await reply(current.value, { parent: message.parent, model: same ? model : null, beside: stands });
});

/** Answer a message that has no answer, or not of every model, after something went wrong. */
export const answer = (message: Message): Promise<void> => attempt(async () => {
  if (current.value) await replies(current.value, message);
});

/** The model that began a reply goes on with it, if it is still served. */
export const goOn = (message: Message): Promise<void> => attempt(async () => {
  const model = models.value.find(({ id }) => id === message.details.model)?.id ?? null;
  if (current.value) await reply(current.value, { goes_on: message.id, model, beside: current.value.leaf === message.parent });
});

export const stop = (messages: Message[]): Promise<void> => attempt(async () => {
  for (const stopped of await Promise.all(messages.map((message) => api.stop(message.id)))) put(stopped);
});

export const answerNow = (message: Message): Promise<void> => attempt(async () => {
  await api.answerNow(message.id);
});

/** Look at the branch through this message; where it ends in replies of several models that are asked, at all of them. */
export const lookAt = (message: Message): Promise<void> => attempt(async () => {
  if (!current.value) return;
  const newest = newestBelow(current.value, message);
  const turn = current.value.messages.find(({ id }) => id === newest.parent);
  const several = newest !== message && turn && asked().length > 1 && repliesTo(current.value, turn).length > 1;
  await lead(several ? turn.id : newest.id);
});

/** Look at every model's reply to the message that this one answers. */
export const compare = (message: Message): Promise<void> => attempt(async () => {
  if (message.parent !== null) await lead(message.parent);
});

async function lead(leaf: string): Promise<void> {
  if (!current.value) return;
  current.value = { ...current.value, leaf };
  await api.change(current.value.id, { leaf });
}

export const rename = (id: string, title: string): Promise<void> => attempt(async () => {
  const changed = await api.change(id, { title });
  if (current.value?.id === id) current.value = { ...current.value, title: changed.title };
  await refreshList();
});

/** Open a conversation from a file that was exported as JSON. */
export const takeIn = (file: File): Promise<void> => attempt(async () => {
  const exported: unknown = await file.text().then(JSON.parse).catch(() => null);
  if (exported === null) throw new Refused(400, `${file.name} is not a conversation that was exported as JSON.`);
  const conversation = await api.takeIn(exported);
  await refreshList();
  location.hash = `#/c/${conversation.id}`;
});

export const remove = (id: string): Promise<void> => attempt(async () => {
  await api.remove(id);
  if (current.value?.id === id) newConversation();
  await refreshList();
});

export const change = (changed: Partial<Settings>): Promise<void> => attempt(async () => {
  settings.value = { ...settings.value, ...changed };
  if (current.value) await api.change(current.value.id, { settings: settings.value });
  if ("model" in changed) await refreshExamples();
});

/** The replies that are being written on the branch that is looked at. */
export function writing(): Message[] {
  return current.value ? [...path(current.value), ...beside(current.value)].filter((message) => message.live) : [];
}
