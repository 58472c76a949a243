// The reader of samples: a toolbar, the list of a group, and one sample in full, thinking and answer apart.

const SHORT_PROMPT = 400;

/** The fixed parts; what changes is filled in by drawReader. */
function readerParts() {
  const parts = {
    stage: el("select", { "aria-label": "stage" }),
    back: el("button", { type: "button", "aria-label": "previous step" }, "‹"),
    on: el("button", { type: "button", "aria-label": "next step" }, "›"),
    slider: el("input", { type: "range", min: 0, "aria-label": "step" }),
    where: el("span", { class: "where", "aria-live": "polite" }),
    search: el("input", { type: "search", "aria-label": "find in samples", placeholder: "Find in samples" }),
    found: el("span", { class: "small found", "aria-live": "polite" }),
    filters: el("div", { class: "choice filters", role: "group", "aria-label": "show" }),
    groups: el("div", { class: "choice groups", role: "group", "aria-label": "group" }),
    question: el("div", { class: "question" }),
    list: el("ul", { class: "list", role: "listbox", tabindex: "0", "aria-label": "samples of the group" }),
    sample: el("article", { class: "sample", "aria-live": "polite" }),
  };
  parts.toolbar = el("div", { class: "toolbar" },
    el("div", { class: "steps" }, parts.stage, parts.back, parts.slider, parts.on, parts.where), parts.search, parts.found, parts.filters);
  parts.body = el("div", { class: "reader" },
    el("div", { class: "side" }, parts.groups, parts.question,
      el("p", { class: "heads small", "aria-hidden": "true" }, ["", "answer", "reward", "advantage"].map((head) =>
        el("span", null, head))), parts.list), parts.sample);
  return parts;
}

function prepareReader(parts, go) {
  const stages = [...new Set(go.places.map((place) => place.stage))];
  append(parts.stage, stages.map((name) => el("option", { value: name }, name)));
  parts.stage.hidden = stages.length < 2;
  parts.slider.max = go.places.length - 1;
  parts.stage.addEventListener("change", () => go.toStep(parts.stage.value, 0));
  parts.slider.addEventListener("input", () => go.toPlace(Number(parts.slider.value)));
  parts.search.addEventListener("change", () => go.find(parts.search.value.trim()));
  parts.back.addEventListener("click", () => go.toPlace(go.ahead(-1)));
  parts.on.addEventListener("click", () => go.toPlace(go.ahead(1)));
}

function drawReader(parts, go) {
  const { stage, step, groups } = go.current();
  parts.stage.value = stage;
  parts.slider.value = go.place;
  parts.slider.setAttribute("aria-valuetext", `step ${step}`);
  parts.back.disabled = go.ahead(-1) < 0;
  parts.on.disabled = go.ahead(1) < 0;
  fill(parts.where, `step ${plain(step)}`);
  if (document.activeElement !== parts.search) parts.search.value = go.wanted;
  fill(parts.found, go.found === null ? null : `in ${go.found.size} of ${go.places.length} steps`);
  fill(parts.filters, go.filters.map((name) => filterButton(name, go)));
  parts.body.setAttribute("aria-busy", String(!groups && !go.trouble));
  if (!groups) {
    for (const part of [parts.groups, parts.question, parts.list]) fill(part);
    fill(parts.sample, el("p", { class: "empty" }, go.trouble ? `Not read: ${go.trouble}.` : "Reading this step …"));
    return;
  }
  fill(parts.groups, groups.length > 1 ? groups.map((group, n) => groupButton(group, n, go)) : null);
  fill(parts.question, question(groups[go.group]));
  drawList(parts.list, go);
  const listed = go.listed().includes(go.sample);
  fill(parts.sample, listed ? sampleInFull(go.samples()[go.sample], go) : nothingHere(go));
}

function pressed(text, on, click, attributes) {
  return el("button", { type: "button", "aria-pressed": String(on), listen: { click }, ...attributes }, text);
}

function filterButton(name, go) {
  const count = go.samples().filter((sample) => matches(sample, name)).length;
  const [glyph, word] = markWords(name);
  const words = name === "all" ? "all" : [el("span", { class: name in VERDICTS ? `verdict ${name}` : "flag", "aria-hidden": "true" },
    glyph), word];
  return pressed([words, el("span", { class: "count" }, count)], go.filter === name, () => go.toFilter(name));
}

function groupButton(group, n, go) {
  const right = group.samples.filter((sample) => sample.verdict === "right").length;
  return pressed([`group ${n + 1}`, el("span", { class: "count" }, `${right}/${group.samples.length}`)],
    go.group === n, () => go.toGroup(n), { class: holds(group, go.filter) ? null : "without", title: group.title });
}

function question(group) {
  const right = group.samples.filter((sample) => sample.verdict === "right").length;
  return [
    el("h3", null, group.title || "problem"),
    el("p", { class: "small" }, `${right} of ${group.samples.length} right`),
    el("details", { class: "prompt", open: group.prompt.length <= SHORT_PROMPT }, el("summary", null, "prompt and problem"),
      el("pre", null, group.prompt), el("pre", null, group.problem)),
  ];
}

function drawList(list, go) {
  const samples = go.samples();
  const largest = Math.max(...samples.map((sample) => Math.abs(sample.advantage || 0)));
  const rows = go.listed().map((n) => listRow(samples[n], n, largest, go));
  fill(list, rows);
  list.setAttribute("aria-activedescendant", `sample-${go.sample}`);
  const chosen = rows[go.listed().indexOf(go.sample)];
  if (chosen && list.contains(document.activeElement)) chosen.scrollIntoView({ block: "nearest" });
}

function listRow(sample, n, largest, go) {
  return el("li", { role: "option", id: `sample-${n}`, "aria-selected": String(go.sample === n),
    listen: { click: () => go.toSample(n) } },
  verdictMark(sample.verdict),
  el("span", { class: "preview" }, flagMark(sample), preview(sample)),
  el("span", { class: "number reward", title: "reward" }, plain(sample.reward)),
  el("span", { class: "bar", title: `advantage ${plain(sample.advantage)}` }, advantageBar(sample.advantage, largest)));
}

function flagMark({ flags }) {
  const words = flags.map(([name]) => markWords(name)[1]).join(", ");
  return flags.length ? el("span", { class: "flag", role: "img", title: words, "aria-label": `flag: ${words}` }, "⚑") : null;
}

/** What tells the samples of a group apart at a glance: the answer, otherwise how the text ends. */
function preview(sample) {
  if (sample.answer !== null) return sample.answer;
  const text = sample.blocks.map((block) => block[1]).join(" ").trim();
  return el("i", null, text ? `… ${text.slice(-60)}` : "nothing");
}

function sampleInFull(sample, go) {
  return [
    el("header", null,
      el("h3", null, verdictMark(sample.verdict), ` ${VERDICTS[sample.verdict][1]}`),
      el("span", { class: "small" }, `sample ${go.sample + 1} of ${go.samples().length}`)),
    sample.flags.length ? el("ul", { class: "flags" }, sample.flags.map(([name, meaning]) =>
      el("li", null, el("span", { class: "flag", "aria-hidden": "true" }, "⚑"), el("b", null, markWords(name)[1]),
        el("span", { class: "small" }, ` ${meaning}`)))) : null,
    facts(sample),
    sample.blocks.length ? sample.blocks.map((block) => region(block, sample.verdict, go.folded))
      : el("p", { class: "small" }, "The model wrote nothing."),
  ];
}

function facts(sample) {
  const pairs = [
    ["reward", plain(sample.reward)],
    ...sample.parts.map(([name, value]) => [name, plain(value)]),
    ["advantage", signed(sample.advantage)],
    ["answer", sample.answer ?? "none"],
    ["ended", sample.finish_reason ?? NONE],
    ["tokens", plain(sample.tokens)],
  ];
  if (sample.error !== null) pairs.push(["could not be scored", sample.error]);
  return el("dl", { class: "facts" }, pairs.map(([name, value]) =>
    el("div", null, el("dt", null, name), el("dd", null, value))));
}

/** A stretch of the text in its own clothes: thinking dimmed and foldable, the answer plain. */
function region([name, text, closed], verdict, folded) {
  const cut = closed || name === "text" ? "" : ", cut off";
  if (name === "thinking") {
    return el("details", { class: "thinking", open: !folded },
      el("summary", null, `thinking${cut}`), el("pre", null, text));
  }
  if (name === "answer") {
    return el("div", { class: `answer ${verdict}` }, el("span", { class: "small" }, `answer${cut}`), el("pre", null, text));
  }
  return text.trim() ? el("pre", { class: "plain" }, text) : null;
}

function nothingHere(go) {
  const ahead = go.ahead(1);
  const behind = go.ahead(-1);
  const step = ahead >= 0 ? ahead : behind;
  return el("p", { class: "empty" }, `No sample of this step is ${go.filter in VERDICTS ? "" : "flagged: "}${markWords(go.filter)[1]}. `,
    step >= 0 ? el("button", { type: "button", listen: { click: () => go.toPlace(step) } },
      `go to step ${plain(go.places[step].step)}`) : null);
}
