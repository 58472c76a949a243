// What the server says, as farthing/server/pages/history_routes.py says it.

export type Effort = "none" | "minimal" | "low" | "medium" | "high" | "max";

/** How a conversation is to be answered; null leaves it to the model. */
export interface Settings {
  model: string | null;
  /** A second model that is asked the same. */
  beside: string | null;
  system: string;
  effort: Effort | null;
  budget: number | null;
  temperature: number | null;
  max_tokens: number | null;
  /** Ids of the documents that answers come from. */
  documents: string[];
}

/** Settings under a name, to be taken for any conversation; what it is about is not among them. */
export interface Preset {
  name: string;
  settings: Omit<Settings, "documents">;
}

/** A text that is kept beside the conversations. */
export interface Document {
  id: string;
  title: string;
  created: number;
  bytes: number;
  passages: number;
}

/** How much is kept at most: documents, and bytes of a text and of a PDF. */
export interface Most {
  documents: number;
  bytes: number;
  pdf_bytes: number;
}

/** A passage that a reply was given: where it stands in which document, in characters, and its words. */
export interface Source {
  document: string;
  title: string;
  start: number;
  stop: number;
  text: string;
  /** Where it begins, from 1, in a document that has pages. */
  page?: number;
}

/** A citation in a reply, or the end of a sentence without one, in characters; farthing/server/documents/verification.py. */
export interface Mark {
  start: number;
  stop: number;
  kind: "quoted" | "worded" | "bare" | "missing" | "unknown" | "unsourced";
  number?: number;
  found_in?: number;
  why: string;
}

export interface Details {
  model?: string;
  prompt_tokens?: number;
  cached_tokens?: number;
  tokens?: number;
  thinking_tokens?: number;
  thinking_seconds?: number;
  first_seconds?: number;
  tokens_per_second?: number | null;
  context?: number;
  thought_ended?: "budget" | "loop" | "asked";
  verdict?: "right" | "wrong" | "unscored";
  /** A model's turn as a person would have it. */
  edited?: boolean;
  sources?: Source[];
  marks?: Mark[];
  error?: string;
}

export type Finish = "stop" | "length" | "stopped" | "interrupted" | "deleted" | "tool_calls";

export interface Live {
  state: "loading" | "waiting" | "thinking" | "answering";
  offset: number;
}

export interface Message {
  id: string;
  conversation: string;
  parent: string | null;
  role: "user" | "assistant";
  content: string;
  thinking: string;
  created: number;
  finish: Finish | null;
  details: Details;
  live?: Live;
}

export interface Summary {
  id: string;
  title: string;
  created: number;
  updated: number;
  leaf: string | null;
  settings: Settings;
  excerpt?: string;
}

export interface Conversation extends Summary {
  messages: Message[];
}

/** A reply to be written: to the message `parent`, or `goes_on` with one; by the conversation's model if none is named. */
export interface Asked {
  parent?: string;
  goes_on?: string;
  model?: string | null;
  seed?: number | null;
  /** The message stays what is looked at, with its replies side by side below it. */
  beside?: boolean;
}

export interface Model {
  id: string;
  max_model_len: number;
  parameters: number | null;
  capabilities: { chat: boolean; thinking: string[] };
  defaults: { temperature: number; max_tokens: number | null };
}

export interface Examples {
  task: string | null;
  examples: string[];
}

/** One event of a reply: what came since the last one, or at the end the whole message. */
export type ReplyEvent =
  | { thinking: string; content: string; details: Details; live: Live }
  | { message: Message };
