// The top of the page: what was built, what it gained, what it cost, and whether to believe it.

const STATE_WORDS = { finished: "finished", running: "running", failed: "failed", interrupted: "interrupted" };

function headerSection(document_) {
  const claim = document_.headline;
  return el("header", { class: "top" },
    el("p", { class: "brand" }, coin(), el("span", null, "farthing"), stateWords(document_)),
    el("h1", null, document_.name),
    claim.sentence ? el("p", { class: "lead" }, claim.sentence) : null,
    claim.final || claim.base ? result(claim) : null,
    el("dl", { class: "spent" }, [...spent(claim), ...left(document_.remaining, claim)].map(([name, value, small]) =>
      el("div", null, el("dt", null, name), el("dd", null, value, small ? el("small", null, small) : null)))));
}

/** A small coin with a quarter marked: a farthing is the fourth part of a penny. */
function coin() {
  return svg("svg", { class: "coin", width: 18, height: 18, viewBox: "0 0 18 18", "aria-hidden": "true" },
    svg("circle", { cx: 9, cy: 9, r: 7.6 }), svg("path", { d: "M9 9V1.4A7.6 7.6 0 0 1 16.6 9Z" }));
}

function stateWords({ status }) {
  const word = STATE_WORDS[status.state] || "state unknown";
  const going = status.state !== "finished" && status.stage;
  const place = going && known(status.steps) && status.steps > 0
    ? `, ${status.stage} step ${plain(status.step)} of ${plain(status.steps)}` : going ? `, ${status.stage}` : "";
  const attempt = status.attempt > 1 ? `, attempt ${status.attempt}` : "";
  return el("span", { class: `pill ${STATE_WORDS[status.state] || "unknown"}` }, `${word}${place}${attempt}`);
}

function result(claim) {
  const { base, final, control, gain } = claim;
  const rate = (one) => el("b", null, share(one["pass@1"]));
  const now = final && final.so_far ? ` so far, at ${final.model}` : "";
  return el("div", { class: "result" },
    el("p", { class: "claim" },
      base ? [el("span", { class: "from" }, rate(base)), final ? el("span", { class: "arrow", "aria-label": "to" }, "→")
        : null] : null,
      final ? el("span", { class: "to" }, rate(final)) : null,
      el("span", { class: "measure" }, `held-out pass@1${now}`,
        gain ? el("span", { class: "gain" }, `${points(gain.value)} points`,
          el("small", null, range(gain.low, gain.high, points))) : null)),
    ladder([["base", base], ["control", control], [final && final.so_far ? "now" : "final", final]]),
    control && claim.lead ? el("p", { class: "small" },
      `Control: the same budget without reinforcement learning. The result lies `,
      `${Math.abs(100 * claim.lead.value).toFixed(1)} points ${claim.lead.value < 0 ? "below" : "above"} it`,
      known(claim.lead.low) ? ` (${range(claim.lead.low, claim.lead.high, points)}).` : ".") : null);
}

/** The rates with their intervals on one line each, all on the same axis from 0 to 100%. */
function ladder(rungs) {
  const shown = rungs.filter(([, one]) => one);
  const axis = el("li", { class: "scale", "aria-hidden": "true" }, el("span"),
    el("span", null, ["0%", "50%", "100%"].map((mark) => el("small", null, mark))), el("span"));
  return el("ul", { class: "ladder" }, shown.map(([name, one]) => {
    const [low, high] = edges(one, "pass@1");
    return el("li", null, el("span", { class: "label" }, name),
      intervalStrip(one["pass@1"], low, high, MODEL_STYLES[name] || "a", 320),
      el("span", { class: "number" }, share(one["pass@1"]), el("small", null, range(low, high))));
  }), axis);
}

function spent(claim) {
  const cores = claim.cores === 1 ? "on one core" : claim.cores ? `on ${plain(claim.cores)} cores` : "";
  const rows = known(claim.wall_s) ? [["time", duration(claim.wall_s), cores]] : [];
  if (known(claim.core_hours)) rows.push(["core-hours", plain(claim.core_hours), ""]);
  if (known(claim.money)) rows.push(["cost", money(claim.money, claim.currency), ""]);
  if (known(claim.tokens)) rows.push(["tokens", compact(claim.tokens), ""]);
  if (known(claim.flops)) rows.push(["arithmetic", scientific(claim.flops), "FLOPs"]);
  if (known(claim.energy_kwh)) rows.push(["energy", energy(claim.energy_kwh), "estimate"]);
  return rows;
}

/** What the stage that goes on will take at the pace of its last steps. */
function left(remaining, { currency }) {
  if (!remaining || !known(remaining.wall_s)) return [];
  return [[`left of ${remaining.stage}`, duration(remaining.wall_s),
    ["about", known(remaining.money) ? money(remaining.money, currency) : null, energy(remaining.energy_kwh)]
      .filter(Boolean).join(" ")]];
}

function alarmList(alarms, open) {
  if (!alarms.length) return null;
  return el("ul", { class: "alarms", "aria-label": "alarms" }, alarms.map((alarm) =>
    el("li", { class: alarm.level }, el("span", { class: "sign", "aria-hidden": "true" }, alarm.level === "error" ? "✕" : "!"),
      el("span", null, alarm.text, " ", el("span", { class: "small" },
        [alarm.stage, known(alarm.step) ? `step ${plain(alarm.step)}` : null].filter(Boolean).join(", "))),
      alarm.panel ? el("button", { type: "button", class: "quiet", listen: { click: () => open(alarm) } }, "see the curve")
        : null)));
}

/** Open the chart of an alarm, which may lie in a folded part. */
function showChart({ stage, panel }) {
  const chart_ = document.getElementById(`chart-${slug(stage)}-${slug(panel)}`);
  if (!chart_) return;
  const folded = chart_.closest("details");
  if (folded) folded.open = true;
  chart_.scrollIntoView({ block: "center" });
  chart_.querySelector(".plot").focus({ preventScroll: true });
}

function stageList(states) {
  const signs = { finished: "✓", running: "▸", failed: "✕" };
  return states.length ? el("ol", { class: "stages", "aria-label": "stages" }, states.map((stage) =>
    el("li", { class: stage.state }, el("span", { class: "sign", "aria-hidden": "true" }, signs[stage.state] || "·"), stage.name,
      el("span", { class: "visually-hidden" }, `, ${stage.state}`),
      stage.steps > 0 ? el("small", null, ` ${plain(stage.step)}/${plain(stage.steps)}`) : null))) : null;
}

function provenanceSection(document_) {
  return section("provenance", "Recipe and provenance",
    el("dl", { class: "facts wide" }, document_.provenance.map(([name, value]) =>
      el("div", null, el("dt", null, name), el("dd", null, value)))),
    document_.recipe ? el("details", null, el("summary", null, "the recipe as it ran"), el("pre", null, document_.recipe))
      : null);
}
