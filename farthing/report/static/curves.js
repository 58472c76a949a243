// The curves of every stage: one large chart for the question that matters, small ones for the rest.

const AXES = { step: "steps", minutes: "minutes", tokens: "tokens" };

function swatch(style, kind) {
  return svg("svg", { class: `swatch ${kind} series ${style}`, width: 14, height: 8, viewBox: "0 0 14 8", "aria-hidden": "true" },
    svg("path", { class: "curve", d: "M0 4H14" }));
}

function captionNotes(panel) {
  const notes = [];
  const widths = panel.series.map(smoothing).filter(Boolean);
  if (widths.length) {
    const pale = panel.kind === "stack" ? "" : "; pale: every step";
    notes.push(`running mean over ${Math.max(...widths)} steps${pale}`);
  }
  if (panel.series.some((one) => one.band.length)) notes.push("band: interval of the rate");
  const most = Math.max(...panel.series.map((one) => one.left_out));
  if (most) notes.push(`${most} points left out: of every stretch the lowest and the highest are drawn`);
  return notes.join(" · ");
}

/** One chart with its caption, legend and cursor. */
function chart(panel, stage, together) {
  const large = panel.large;
  const write = writer(panel.unit);
  const last = together.steps.at(-1);
  const when = el("span", { class: "when" });
  const values = panel.series.map(() => el("span", { class: "value" }));
  const legend = el("ul", { class: "legend" }, panel.series.map((one, n) =>
    el("li", null, swatch(one.style, panel.kind), el("span", { class: "label" }, one.label), values[n])));
  const frame = el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": panel.title,
    "aria-valuemin": together.steps[0], "aria-valuemax": last });
  let view = null;
  const self = {
    redraw() {
      const width = frame.clientWidth;
      if (!width) return;
      view = paint(panel, stage.axis, together.axisName, width, large ? Math.min(340, 150 + width / 4) : 190);
      fill(frame, view.root);
    },
    show(step) {
      const chosen = step ?? last;
      panel.series.forEach((one, n) => fill(values[n], valueText(one, chosen, write, !large)));
      fill(when, step === null ? "" : together.when(step));
      frame.setAttribute("aria-valuenow", chosen);
      frame.setAttribute("aria-valuetext", `${together.when(chosen)}: ` + panel.series.map((one) =>
        `${one.label} ${valueText(one, chosen, write)}`).join(", "));
      if (view) step === null ? fill(view.cursor) : drawCursor(panel, view, step);
    },
  };
  makeReadable(frame, together, () => view);
  new ResizeObserver(() => self.redraw()).observe(frame);
  together.join(self);
  self.show(null);
  const unit = panel.unit === "share" ? "percent" : panel.unit;
  return el("figure", { class: large ? "chart large" : "chart", id: `chart-${slug(stage.name)}-${slug(panel.id)}` },
    el("figcaption", null, el("h3", null, panel.title, unit ? el("span", { class: "unit" }, unit) : null), when, legend),
    frame, el("p", { class: "small" }, captionNotes(panel)));
}

/** A name as part of an id: letters, digits and dashes. */
function slug(name) {
  return String(name).replace(/[^A-Za-z0-9]+/g, "-");
}

/** The choice of the horizontal axis, shared by all stages. */
function axisChoice(stages, hubs, kept) {
  const offered = Object.keys(AXES).filter((name) => stages.some((stage) => stage.axis[name].some(known)));
  const buttons = offered.map((name) => el("button", { type: "button", "aria-pressed": String(name === "step"),
    listen: { click: () => choose(name) } }, AXES[name]));
  function choose(name) {
    kept.axis = name;
    buttons.forEach((button, n) => button.setAttribute("aria-pressed", String(offered[n] === name)));
    hubs.forEach((one) => one.use(name));
  }
  if (offered.includes(kept.axis)) choose(kept.axis);
  return el("div", { class: "choice", role: "group", "aria-label": "horizontal axis" }, buttons);
}

const KIND_TITLES = { pretrain: "Pretraining", sft: "Supervised fine-tuning", grpo: "Reinforcement learning",
  distill: "Distillation", rejection: "Rejection sampling" };

function stageTitle({ name, kind }) {
  const title = Object.hasOwn(KIND_TITLES, kind) ? KIND_TITLES[kind] : null;
  return title ? (name === kind ? title : `${title}: ${name}`) : name;
}

/** A stage's section of charts. */
function stageSection(stage, together, choice) {
  const shown = stage.panels.filter((panel) => !panel.more);
  const more = stage.panels.filter((panel) => panel.more);
  const large = shown.filter((panel) => panel.large);
  const small = shown.filter((panel) => !panel.large);
  const draw = (panel) => chart(panel, stage, together);
  return section(`stage-${slug(stage.name)}`, stageTitle(stage),
    choice,
    large.map(draw), small.length ? el("div", { class: "charts" }, small.map(draw)) : null,
    more.length ? el("details", { class: "more" }, el("summary", null, `${more.length} more curves`),
      el("div", { class: "charts" }, more.map(draw))) : null);
}

/** All stages, the one with held-out accuracy first: it answers what the page is opened for. `open(stage, step)` leads to
    samples; null where there are none to lead to. */
function stageSections(stages, open, kept) {
  const weight = (stage) => (stage.panels.some((panel) => panel.id === "pass") ? 0 : 1);
  const ordered = [...stages].sort((a, b) => weight(a) - weight(b));
  const hubs = ordered.map((stage) => hub(stage, open));
  const choice = ordered.length ? axisChoice(ordered, hubs, kept) : null;
  return ordered.map((stage, n) =>
    stageSection(stage, hubs[n], n === 0 ? el("div", { class: "above" }, choice,
      el("p", { class: "small" }, "Point at a chart, or move to it and use the arrow keys, to read values",
        open ? "; double-click or Enter opens the samples of that step." : ".")) : null));
}
