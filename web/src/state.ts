// What the page knows, and everything that a person can do with it.

import { signal } from "@preact/signals";
import { api, listen, Refused } from "./api";
import { newestBelow, path, withMessage } from "./tree";
import { refreshDocuments } from "./documents";
import type { Conversation, Examples, Message, Model, Preset, Settings, Summary } from "./types";

const NOTHING: Settings = { model: null, system: "", effort: null, budget: null, temperature: null, max_tokens: null,
  documents: [] };

export const models = signal<Model[]>([]);
export const conversations = signal<Summary[]>([]);
export const search = signal("");
export const current = signal<Conversation | null>(null);
export const settings = signal<Settings>(NOTHING);
export const presets = signal<Preset[]>([]);
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
    [models.value, runs.value, presets.value] = await Promise.all([api.models(), api.hasRuns(), api.presets()]);
    await Promise.all([refreshList(), openAddressed(), refreshDocuments()]);
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

async function reply(conversation: Conversation, asked: { parent: string } | { goes_on: string }): Promise<void> {
  const message = await api.reply(conversation.id, asked);
  put(message);
  if (current.value?.id === conversation.id) current.value = { ...current.value, leaf: message.id };
  follow(message);
  await refreshList();
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
    const below = parent === undefined ? conversation.leaf : parent;
    const message = await api.say(conversation.id, below, content);
    current.value = { ...withMessage(conversation, message), leaf: message.id };
    await reply(conversation, { parent: message.id });
  });
  busy.value = false;
}

/** A model's turn as one would have it, on a branch of its own; what is said next stands below it. */
export const rewrite = (message: Message, content: string): Promise<void> => attempt(async () => {
  const edited = await api.rewrite(message, content);
  if (current.value) current.value = { ...withMessage(current.value, edited), leaf: edited.id };
});

export const regenerate = (message: Message): Promise<void> => attempt(async () => {
  if (current.value && message.parent !== null) await reply(current.value, { parent: message.parent });
});

/** Answer a message that has no answer, after something went wrong. */
export const answer = (message: Message): Promise<void> => attempt(async () => {
  if (current.value) await reply(current.value, { parent: message.id });
});

export const goOn = (message: Message): Promise<void> => attempt(async () => {
  if (current.value) await reply(current.value, { goes_on: message.id });
});

export const stop = (message: Message): Promise<void> => attempt(async () => put(await api.stop(message.id)));

export const answerNow = (message: Message): Promise<void> => attempt(async () => {
  await api.answerNow(message.id);
});

/** Look at the branch through this message. */
export const lookAt = (message: Message): Promise<void> => attempt(async () => {
  if (!current.value) return;
  const leaf = newestBelow(current.value, message).id;
  current.value = { ...current.value, leaf };
  await api.change(current.value.id, { leaf });
});

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

/** Take the settings of a preset. A model that is not served any more is left out. */
export const takePreset = ({ settings: kept }: Preset): Promise<void> =>
  change({ ...NOTHING, ...kept, documents: settings.value.documents, model: models.value.some(({ id }) => id === kept.model) ? kept.model : null });

export const keepPreset = (name: string): Promise<void> => attempt(async () => {
  const { documents: _, ...kept } = settings.value;
  await api.keepPreset({ name, settings: kept });
  presets.value = await api.presets();
});

export const dropPreset = (name: string): Promise<void> => attempt(async () => {
  await api.dropPreset(name);
  presets.value = await api.presets();
});

/** The reply that is being written on the branch that is looked at. */
export function writing(): Message | undefined {
  return current.value ? path(current.value).find((message) => message.live) : undefined;
}
