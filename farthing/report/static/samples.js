// Where the reader of samples is, and how to get from there to somewhere else. Drawing is in reader.js.

/** What a sample can be chosen by: its verdict, and the names of its flags. */
const marksOf = (sample) => [sample.verdict, ...sample.flags.map(([name]) => name)];

/** The steps in the order of the run: {stage, step, verdicts, groups}; `groups` is null until they have been asked for. */
function stops({ groups, steps }) {
  if (steps) return steps.map(([stage, step, verdicts]) => ({ stage, step, verdicts, groups: null }));
  const found = [];
  for (const group of groups) {
    const last = found.at(-1);
    if (last && last.stage === group.stage && last.step === group.step) last.groups.push(group);
    else found.push({ stage: group.stage, step: group.step, groups: [group] });
  }
  for (const stop of found) stop.verdicts = [...new Set(stop.groups.flatMap((g) => g.samples.flatMap(marksOf)))];
  return found;
}

const offers = (place, { filter, found }) =>
  (filter === "all" || place.verdicts.includes(filter)) && (found === null || found.has(place));

/** The embedded places with this text in a prompt or a sample. */
function holding(places, text) {
  const wanted = text.toLowerCase();
  const said = (group) => [group.prompt, ...group.samples.flatMap((sample) => sample.blocks.map((block) => block[1]))];
  return places.filter(({ groups }) => groups.some((group) => said(group).some((words) => words.toLowerCase().includes(wanted))));
}
const matches = (sample, filter) => filter === "all" || marksOf(sample).includes(filter);
const holds = (group, filter) => group.samples.some((sample) => matches(sample, filter));

/** The state of the browser: place, group, sample and filter always name something that exists, once the groups of the
    place are there. `ask` promises them, and the places with a text; without it everything is there. */
function navigation(places, changed, ask) {
  const verdicts = new Set(places.flatMap((place) => place.verdicts));
  const self = {
    places,
    filters: ["all", ...Object.keys(VERDICTS).filter((name) => verdicts.has(name)),
      ...[...verdicts].filter((name) => !(name in VERDICTS)).sort()],
    place: 0, group: 0, sample: 0, filter: "all", folded: false, trouble: null, found: null, wanted: "",
    current: () => places[self.place],
    samples: () => (self.current().groups ? self.current().groups[self.group].samples : []),
    listed: () => self.samples().map((_, n) => n).filter((n) => matches(self.samples()[n], self.filter)),

    /** The nearest place in this direction that holds a sample of the filter, or -1. */
    ahead(direction) {
      for (let n = self.place + direction; n >= 0 && n < places.length; n += direction) {
        if (offers(places[n], self)) return n;
      }
      return -1;
    },
    async bring(place) {
      try {
        place.groups = await ask.groups(place);
        if (!place.groups.length) throw new Error("these samples are gone");
        self.trouble = null;
      } catch (problem) {
        place.groups = null;
        self.trouble = problem.message;
      }
      if (place !== self.current()) return;
      place.groups ? self.settle() : changed();
    },
    settle() {
      const groups = self.current().groups;
      if (!groups) {
        self.trouble = null;
        changed();
        self.bring(self.current());
        return;
      }
      self.group = Math.min(self.group, groups.length - 1);
      if (!holds(groups[self.group], self.filter)) {
        const other = groups.findIndex((group) => holds(group, self.filter));
        if (other >= 0) self.group = other;
      }
      if (!self.listed().includes(self.sample)) self.sample = self.listed()[0] ?? 0;
      changed();
    },
    toPlace(place) {
      if (place < 0 || place >= places.length) return;
      self.place = place;
      self.sample = 0;
      self.settle();
    },
    toGroup(group) {
      if (!self.current().groups || group < 0 || group >= self.current().groups.length) return;
      self.group = group;
      self.sample = self.listed()[0] ?? 0;
      changed();
    },
    toSample(sample) { self.sample = sample; changed(); },
    nextSample(direction) {
      const listed = self.listed();
      const next = listed[listed.indexOf(self.sample) + direction];
      if (next !== undefined) self.toSample(next);
    },
    /** Go only where this text is; everywhere again for none. */
    async find(text) {
      self.wanted = text;
      let found = null;
      try {
        if (text) found = new Set(ask ? await ask.find(places, text) : holding(places, text));
      } catch {
        self.wanted = text = ""; // the server does not answer, which the page says elsewhere
      }
      if (self.wanted !== text) return;
      self.found = found;
      const next = !found || found.has(self.current()) ? self.place : Math.max(self.ahead(1), self.ahead(-1));
      next < 0 || next === self.place ? changed() : self.toPlace(next);
    },
    toFilter(filter) { self.filter = filter; self.settle(); },
    nextFilter() { self.toFilter(self.filters[(self.filters.indexOf(self.filter) + 1) % self.filters.length]); },
    toggleThinking() { self.folded = !self.folded; changed(); },
    /** What is looked at; the newest step stays the newest when more are logged. */
    where: () => ({ stage: self.current().stage, step: self.current().step, newest: self.place === places.length - 1,
      group: self.group, sample: self.sample, filter: self.filter, folded: self.folded, wanted: self.wanted }),
    resume({ stage, step, newest, group, sample, filter, folded, wanted }) {
      if (self.filters.includes(filter)) self.filter = filter;
      self.folded = folded;
      self.place = newest ? places.length - 1 : self.at(stage, step);
      if (!newest) Object.assign(self, { group, sample });
      self.settle();
      if (wanted) self.find(wanted);
    },
    /** The place of a stage that is nearest to a step; where the stage has none, the last of all. */
    at(stage, step) {
      const there = places.map((place, n) => [place, n]).filter(([place]) => place.stage === stage);
      return there.length ? there[nearest(there.map(([place]) => place.step), step)][1] : places.length - 1;
    },
    toStep(stage, step) {
      if (places.some((place) => place.stage === stage)) self.toPlace(self.at(stage, step));
    },
  };
  return self;
}

const KEYS = {
  j: (go) => go.nextSample(1), k: (go) => go.nextSample(-1),
  l: (go) => go.toPlace(go.ahead(1)), h: (go) => go.toPlace(go.ahead(-1)),
  ArrowRight: (go) => go.toPlace(go.ahead(1)), ArrowLeft: (go) => go.toPlace(go.ahead(-1)),
  "]": (go) => go.toGroup(go.group + 1), "[": (go) => go.toGroup(go.group - 1),
  f: (go) => go.nextFilter(), t: (go) => go.toggleThinking(),
};
const LIST_KEYS = { ArrowDown: KEYS.j, ArrowUp: KEYS.k };

/** Keys work while the focus is inside the browser, so that they disturb nobody elsewhere on the page. */
function listenToKeys(node, list, go) {
  node.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.matches("input[type=search]")) return;
    const typing = event.target.matches("select, input");
    const scrolls = event.key.startsWith("Arrow") && !list.contains(event.target);
    const action = KEYS[event.key] || (event.target === list ? LIST_KEYS[event.key] : undefined);
    if (!action || (event.key.startsWith("Arrow") && (typing || scrolls))) return;
    action(go);
    event.preventDefault();
  });
}

/** The section with the browser; `open(stage, step)` leads there from a chart, `where()` says what is looked at. */
function samplesSection(samples, before, ask) {
  const places = stops(samples);
  if (!places.length) return { node: null, open: () => {}, where: () => null };
  const parts = readerParts();
  const go = navigation(places, () => drawReader(parts, go), ask);
  const left = samples.steps_total - samples.steps_shown;
  const node = section("samples", "Samples",
    el("p", { class: "small" }, left
      ? `From ${samples.steps_shown} of ${samples.steps_total} logged steps; samples.jsonl has them all. `
      : `From ${samples.steps_total} steps. `, "A run keeps some groups now and then for reading, those that teach first."),
    parts.toolbar, parts.body, keyHelp());
  prepareReader(parts, go);
  listenToKeys(node, parts.list, go);
  if (before && before()) go.resume(before());
  else go.toPlace(places.length - 1);
  const open = (stage, step) => {
    go.toStep(stage, step);
    node.scrollIntoView({ block: "start" });
    parts.list.focus({ preventScroll: true });
  };
  return { node, open, where: go.where };
}

function keyHelp() {
  const key = (name) => el("kbd", null, name);
  return el("p", { class: "small keys" }, "In this section: ", key("j"), " ", key("k"), " sample, ", key("h"), " ",
    key("l"), " step, ", key("["), " ", key("]"), " group, ", key("f"), " filter, ", key("t"), " fold the thinking.");
}
