// Colours for code, by highlight.js: a few languages, all of them in the bundle. What it gives is text with spans around
// parts of it and goes through the same sanitiser as everything else.

import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const LANGUAGES = { bash, cpp, javascript, json, python, rust, sql, typescript, xml, yaml };
/** Longer code stays plain: it is drawn again and again while it is being written. */
const LONGEST = 12_000;

for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);
hljs.registerAliases(["c", "h"], { languageName: "cpp" });

/** HTML of coloured code, or nothing where the language is not known: then the code is shown as it is. */
export function coloured(code: string, language: string): string {
  if (code.length > LONGEST || !hljs.getLanguage(language)) return "";
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}
