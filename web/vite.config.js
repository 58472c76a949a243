// One page, fixed names, no address of anybody else: what comes out is committed under farthing/server/static.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { defineConfig } from "vite";

const root = import.meta.dirname;
const repository = resolve(root, "..");
const PALETTE = "farthing/report/static/palette.css";
const LEFT_OUT = new Set(["node_modules"]);
const SHIPPED = ["preact", "@preact/signals", "@preact/signals-core", "markdown-it", "dompurify", "highlight.js", "katex", "linkify-it",
  "mdurl", "uc.micro", "entities", "punycode.js"];

function* walk(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (LEFT_OUT.has(entry.name)) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    else yield path;
  }
}

const digest = (content) => createHash("sha256").update(content).digest("hex");

/** One hash of many files: of a line "name hash" for each, in the order of their names. */
function sourcesHash() {
  const names = [...walk(root)].map((path) => relative(repository, path).split(sep).join("/"));
  const lines = [...names, PALETTE].sort().map((name) => `${name} ${digest(readFileSync(join(repository, name)))}\n`);
  return digest(lines.join(""));
}

/** Which sources the built files were made from, so that a test without Node can tell whether they belong together. */
function stamp() {
  let out = "";
  return {
    name: "stamp",
    configResolved(config) { out = resolve(config.root, config.build.outDir); },
    closeBundle() {
      writeFileSync(join(out, "licenses.txt"), licences());
      const files = [...walk(out)].map((path) => relative(out, path).split(sep).join("/")).sort()
        .filter((name) => name !== "built.json");
      const built = Object.fromEntries(files.map((name) => [name, digest(readFileSync(join(out, name)))]));
      writeFileSync(join(out, "built.json"), `${JSON.stringify({ sources: sourcesHash(), files: built }, null, 1)}\n`);
    },
  };
}

/** The licences of what is inside the bundle. */
function licences() {
  const parts = SHIPPED.map((name) => {
    const folder = join(root, "node_modules", name);
    let listed = [];
    try { listed = readdirSync(folder); } catch { return ""; }
    const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = listed.find((entry) => /^licen[cs]e(\.(md|txt))?$/i.test(entry));
    return file ? `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n` : "";
  });
  return parts.filter(Boolean).join(`\n${"-".repeat(78)}\n\n`);
}

/** KaTeX names every font in three forms; every browser that runs this page reads the smallest. */
function onlyWoff2() {
  return {
    name: "only-woff2",
    enforce: "pre",
    transform(code, id) {
      if (!id.includes("katex") || !id.endsWith(".css")) return null;
      return { code: code.replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\(["'](?:woff|truetype)["']\)/g, ""), map: null };
    },
  };
}

export default defineConfig({
  root,
  base: "/static/",
  plugins: [onlyWoff2(), stamp()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../farthing/server/static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: false,
    cssCodeSplit: false,
    rollupOptions: {
      input: join(root, "chat.html"),
      output: {
        entryFileNames: "chat.js",
        assetFileNames: (asset) => (asset.names.some((name) => name.endsWith(".woff2")) ? "fonts/[name][extname]" : "chat[extname]"),
      },
    },
  },
  server: { proxy: { "/api": "http://127.0.0.1:8000", "/v1": "http://127.0.0.1:8000" } },
});
