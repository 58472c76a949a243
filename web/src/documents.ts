// What the page knows of documents, and everything that a person can do with them.

import { signal } from "@preact/signals";
import { api, Refused } from "./api";
import { attempt, change, settings } from "./state";
import { unitsBefore } from "./text/citations";
import type { Document, Mark, Most, Source } from "./types";

export const documents = signal<{ listed: Document[]; most: Most }>(
  { listed: [], most: { documents: 0, bytes: 0, pdf_bytes: 0 } });
/** The name of the file that is being taken in; a PDF takes a while. */
export const taking = signal<string | null>(null);
/** Between two pages of a document that has pages. */
export const PAGE_BREAK = "\f";
/** What is being read: a text, the part of it that was cited (in characters), and whether the citation holds; `page`: of a
 * text with pages, the number of its first. */
export const reader = signal<
  { title: string; text: string; start: number; stop: number; page?: number; why?: string; holds?: boolean; note?: string } | null>(null);

/** "lease.pdf, page 3": where a passage stands; `page` is where it begins. */
export function placeOf(title: string, page: number | undefined, passage: string): string {
  if (page === undefined) return title;
  const last = page + passage.split(PAGE_BREAK).length - 1;
  return `${title}, ${last === page ? `page ${page}` : `pages ${page}–${last}`}`;
}

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

async function keep(made: Document): Promise<void> {
  await refreshDocuments();
  await choose(made.id, true);
}

/** A text under a title, chosen for this conversation; false where it was refused. */
export async function addText(title: string, text: string): Promise<boolean> {
  let added = false;
  await attempt(async () => {
    await keep(await api.addDocument(title, text));
    added = true;
  });
  return added;
}

/** PDFs and files of plain text; what cannot be read is said, and the others are taken all the same. */
export const addFiles = (files: File[]): Promise<void> => attempt(async () => {
  const said: string[] = [];
  for (const file of files) {
    taking.value = file.name;
    try {
      const blank = await addFile(file);
      if (blank) said.push(`${file.name}: ${blank} of its pages ${blank === 1 ? "has" : "have"} no text; the others are here.`);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      said.push(`${file.name}: ${problem.message}`);
    } finally {
      taking.value = null;
    }
  }
  if (said.length) throw new Refused(400, said.join(" "));
});

/** How many of its pages are without text. */
async function addFile(file: File): Promise<number> {
  const title = file.name.slice(0, 200);
  const { bytes, pdf_bytes } = documents.value.most;
  const isPdf = (await file.slice(0, 1024).text()).includes("%PDF-");
  const most = isPdf ? pdf_bytes : bytes;
  if (file.size > most) throw new Refused(413, `it has ${file.size.toLocaleString("en")} bytes; at most ${most.toLocaleString("en")}.`);
  if (!isPdf) {
    await keep(await api.addDocument(title, await textOf(file)));
    return 0;
  }
  const made = await api.addPdf(title, file);
  await keep(made);
  return made.blank;
}

async function textOf(file: File): Promise<string> {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes("\0")) return text;
  } catch (problem) {
    if (!(problem instanceof TypeError)) throw problem;
  }
  throw new Refused(400, "this is no PDF and no plain text (UTF-8). Save it as one of these first.");
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
  reader.value = { title, text, start: 0, stop: 0, ...(text.includes(PAGE_BREAK) ? { page: 1 } : {}) };
});

/** The passage in its document; where that is gone or is another one, the passage alone. */
export async function openSource({ document, title, start, stop, text, page }: Source, mark?: Mark): Promise<void> {
  const cited = mark ? { why: mark.why, holds: mark.kind !== "missing" } : {};
  const kept = await api.openDocument(document).catch((problem: unknown) => {
    if (problem instanceof Refused) return null;
    throw problem;
  });
  const from = kept ? unitsBefore(kept.text, start) : 0;
  const paged = (first: number) => (page === undefined ? {} : { page: first });
  reader.value = kept?.text.startsWith(text, from)
    ? { title: placeOf(kept.title, page, text), text: kept.text, start, stop, ...cited, ...paged(1) }
    : { title: placeOf(title, page, text), text, start: 0, stop: Array.from(text).length, ...cited, ...paged(page ?? 1),
      note: "The document is not here any more. This is the passage that the model was given." };
}
