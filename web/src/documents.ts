// What the page knows of documents, and everything that a person can do with them.

import { signal } from "@preact/signals";
import { api, Refused } from "./api";
import { attempt, change, settings } from "./state";
import { unitsBefore } from "./text/citations";
import type { Document, Mark, Source } from "./types";

export const documents = signal<{ listed: Document[]; most: { documents: number; bytes: number } }>(
  { listed: [], most: { documents: 0, bytes: 0 } });
/** What is being read: a text, the part of it that was cited (in characters), and whether the citation holds. */
export const reader = signal<
  { title: string; text: string; start: number; stop: number; why?: string; holds?: boolean; note?: string } | null>(null);

export async function refreshDocuments(): Promise<void> {
  const { documents: listed, most } = await api.documents();
  documents.value = { listed, most };
}

/** What answers of this conversation come from; a document that was deleted may still be among the settings. */
export const chosenDocuments = (): Document[] =>
  documents.value.listed.filter(({ id }) => settings.value.documents.includes(id));

/** Whether answers of this conversation come from a document. */
export const choose = (id: string, wanted: boolean): Promise<void> => {
  const others = settings.value.documents.filter((one) => one !== id);
  return change({ documents: wanted ? [...others, id] : others });
};

async function keepDocument(title: string, text: string): Promise<void> {
  const made = await api.addDocument(title, text);
  await refreshDocuments();
  await choose(made.id, true);
}

/** A text under a title, chosen for this conversation; false where it was refused. */
export async function addText(title: string, text: string): Promise<boolean> {
  let added = false;
  await attempt(async () => {
    await keepDocument(title, text);
    added = true;
  });
  return added;
}

/** Files of plain text; what cannot be read is said, and the others are taken all the same. */
export const addFiles = (files: File[]): Promise<void> => attempt(async () => {
  const refused: string[] = [];
  for (const file of files) {
    try {
      await keepDocument(file.name.slice(0, 200), await textOf(file));
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      refused.push(`${file.name}: ${problem.message}`);
    }
  }
  if (refused.length) throw new Refused(400, refused.join(" "));
});

async function textOf(file: File): Promise<string> {
  const { bytes } = documents.value.most;
  if (file.size > bytes) throw new Refused(413, `it has ${file.size.toLocaleString("en")} bytes; at most ${bytes.toLocaleString("en")}.`);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0") && !text.startsWith("%PDF-")) return text;
  } catch (problem) {
    if (!(problem instanceof TypeError)) throw problem;
  }
  throw new Refused(400, "this is no plain text (UTF-8). Save it as text first: .txt or .md.");
}

export const renameDocument = (id: string, title: string): Promise<void> => attempt(async () => {
  await api.renameDocument(id, title);
  await refreshDocuments();
});

export const dropDocument = (id: string): Promise<void> => attempt(async () => {
  await api.dropDocument(id);
  await refreshDocuments();
  if (settings.value.documents.includes(id)) await choose(id, false);
});

export const openDocument = ({ id, title }: Document): Promise<void> => attempt(async () => {
  const { text } = await api.openDocument(id);
  reader.value = { title, text, start: 0, stop: 0 };
});

/** The passage in its document; where that is gone or is another one, the passage alone. */
export async function openSource({ document, title, start, stop, text }: Source, mark?: Mark): Promise<void> {
  const cited = mark ? { why: mark.why, holds: mark.kind !== "missing" } : {};
  const kept = await api.openDocument(document).catch((problem: unknown) => {
    if (problem instanceof Refused) return null;
    throw problem;
  });
  const from = kept ? unitsBefore(kept.text, start) : 0;
  reader.value = kept?.text.startsWith(text, from)
    ? { title: kept.title, text: kept.text, start, stop, ...cited }
    : { title, text, start: 0, stop: Array.from(text).length, ...cited,
      note: "The document is not here any more. This is the passage that the model was given." };
}
