// Every request that the page makes. They go to where the page came from and nowhere else.

import type { Asked, Conversation, Document, Examples, Message, Model, Most, Preset, ReplyEvent, Settings, Summary } from "./types";

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

const asJson = (body: unknown): RequestInit => ({ body: JSON.stringify(body), headers: { "content-type": "application/json" } });

const call = <T>(method: string, path: string, body?: unknown): Promise<T> =>
  send(path, { method, ...(body === undefined ? {} : asJson(body)) });

async function send<T>(path: string, request: RequestInit): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Refused(0, "The server does not answer. Is it still running?");
  }
  if (answer.status === 204) return undefined as T;
  const said: unknown = await answer.json().catch(() => null);
  if (answer.ok) return said as T;
  if (answer.status === 401) location.reload(); // the session is over: the server shows its form
  throw new Refused(answer.status, (said as { error?: { message?: string } } | null)?.error?.message ?? answer.statusText);
}

const path = (id: string, more = ""): string => `/api/conversations/${encodeURIComponent(id)}${more}`;

export const api = {
  models: () => call<{ data: Model[] }>("GET", "/v1/models").then((found) => found.data),
  hasRuns: () => call<{ runs: boolean }>("GET", "/api/pages").then((found) => found.runs),
  examples: (model: string) => call<Examples>("GET", `/api/examples?model=${encodeURIComponent(model)}`),
  list: (search: string) => call<{ conversations: Summary[] }>("GET", `/api/conversations?search=${encodeURIComponent(search)}`)
    .then((found) => found.conversations),
  begin: (settings: Settings) => call<Conversation>("POST", "/api/conversations", { settings }),
  open: (id: string) => call<Conversation>("GET", path(id)),
  change: (id: string, change: { title?: string; settings?: Settings; leaf?: string }) =>
    call<Conversation>("PATCH", path(id), change),
  remove: (id: string) => call<void>("DELETE", path(id)),
  say: (id: string, parent: string | null, content: string) =>
    call<Message>("POST", path(id, "/messages"), { parent, content }),
  rewrite: (message: Message, content: string) => call<Message>("POST", path(message.conversation, "/messages"),
    { role: "assistant", parent: message.parent, thinking: message.thinking, content }),
  takeIn: (exported: unknown) => call<Conversation>("POST", "/api/imports", exported),
  reply: (id: string, asked: Asked) =>
    call<Message>("POST", path(id, "/replies"), asked),
  stop: (message: string) => call<Message>("POST", `/api/replies/${message}/stop`, {}),
  answerNow: (message: string) => call<unknown>("POST", `/api/replies/${message}/answer`, {}),
  presets: () => call<{ presets: Preset[] }>("GET", "/api/presets").then((found) => found.presets),
  keepPreset: ({ name, settings }: Preset) => call<Preset>("PUT", `/api/presets/${encodeURIComponent(name)}`, settings),
  dropPreset: (name: string) => call<void>("DELETE", `/api/presets/${encodeURIComponent(name)}`),
  documents: () => call<{ documents: Document[]; most: Most }>("GET", "/api/documents"),
  addDocument: (title: string, text: string) => call<Document>("POST", "/api/documents", { title, text }),
  addPdf: (title: string, file: File) => send<Document & { blank: number }>(`/api/documents?title=${encodeURIComponent(title)}`,
    { method: "POST", body: file, headers: { "content-type": "application/pdf" } }),
  openDocument: (id: string) => call<Document & { text: string }>("GET", `/api/documents/${encodeURIComponent(id)}`),
  renameDocument: (id: string, title: string) => call<Document>("PATCH", `/api/documents/${encodeURIComponent(id)}`, { title }),
  dropDocument: (id: string) => call<void>("DELETE", `/api/documents/${encodeURIComponent(id)}`),
  exported: (id: string, form: "json" | "markdown") => path(id, `/export?form=${form}`),
};

/** Listen to a reply from an offset on; returns what stops listening. A line that breaks is taken up where it was. */
export function listen(message: Message, heard: (event: ReplyEvent) => void, lost: () => void): () => void {
  const source = new EventSource(`/api/replies/${message.id}/events?offset=${message.live?.offset ?? 0}`);
  source.onmessage = ({ data }: MessageEvent<string>) => {
    const event = JSON.parse(data) as ReplyEvent;
    if ("message" in event) source.close();
    heard(event);
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) lost();
  };
  return () => source.close();
}
