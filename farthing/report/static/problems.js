// Problems one by one: the held-out ones before and after, and those of training that were met again.

const AT_FIRST = 12;

function problemsSection(held, training) {
  const parts = [held.rows ? heldOut(held) : null, metAgain(training)].filter(Boolean);
  return parts.length ? section("problems", "Problems", parts) : null;
}

/** A table that shows its first rows and, when asked, all of them. */
function unfolding(columns, rows, label) {
  const few = table(columns, rows.slice(0, AT_FIRST), { "aria-label": label });
  if (rows.length <= AT_FIRST) return few;
  const more = el("button", { type: "button", class: "quiet", listen: { click: () => {
    few.replaceWith(table(columns, rows, { "aria-label": label }));
    more.remove();
  } } }, `all ${rows.length} problems`);
  return el("div", { class: "unfolding" }, few, more);
}

function problemColumn() {
  return { head: "problem", cell: (row) => el("span", { class: "problem", title: row.title }, row.title) };
}

function heldOut({ models, buckets, counts, rows }) {
  const columns = [problemColumn(),
    ...models.map((name, n) => ({ head: name, numeric: true, cell: (row) => share(row.rates[n], 0) })),
    { head: "0 to 100%", mark: true, cell: (row) => journey(row.rates, models) }];
  return el("div", { class: "held" },
    el("h3", null, "Held-out problems by how often they are solved"),
    histogram(models, buckets, counts),
    unfolding(columns, rows, "held-out problems"),
    el("p", { class: "small" }, "In order of what was gained, most first."));
}

/** The rates of one problem as dots on a line from 0 to 100%, joined in the order of the models. */
function journey(rates, models) {
  const at = linear(0, 1, 5, 235);
  const there = rates.map((rate, n) => [rate, MODEL_STYLES[models[n]] || "a"]).filter(([rate]) => known(rate));
  const [low, high] = ends(there.map(([rate]) => rate));
  return svg("svg", { class: "strip series a", width: 240, height: 16, viewBox: "0 0 240 16", "aria-hidden": "true" },
    svg("line", { class: "track", x1: 5, x2: 235, y1: 8, y2: 8 }),
    low === null ? null : svg("line", { class: "whisker", x1: at(low), x2: at(high), y1: 8, y2: 8 }),
    there.map(([rate, style]) => svg("g", { class: `series ${style}` }, svg("circle", { class: "dot", cx: at(rate), cy: 8, r: 3.6 }))));
}

/** Bars side by side for each share of solved attempts, one colour for each model. */
function histogram(models, buckets, counts) {
  const [, most] = ends(counts.flat());
  const height = 110;
  const slot = 30 * models.length + 36;
  const y = linear(0, most || 1, 0, height - 18);
  const bar = (count, n, m) => svg("g", { class: `series ${MODEL_STYLES[models[m]] || "a"}` },
    svg("rect", { class: "layer", x: n * slot + 18 + 30 * m, y: height - y(count), width: 26, height: y(count) }),
    svg("text", { x: n * slot + 31 + 30 * m, y: height - y(count) - 5, "text-anchor": "middle" }, count));
  return el("div", { class: "histogram scroll", tabindex: "0", role: "region", "aria-label": "problems by share solved" },
    el("ul", { class: "legend" }, models.map((name) => el("li", null, swatch(MODEL_STYLES[name] || "a", "stack"), name))),
    svg("svg", { width: slot * buckets.length, height: height + 24, role: "img",
      "aria-label": models.map((name, m) => `${name}: ${buckets.map((b, n) => `${counts[m][n]} ${b}`).join(", ")}`).join("; ") },
    svg("line", { class: "ground", x1: 0, x2: slot * buckets.length, y1: height, y2: height }),
    buckets.map((label, n) => [counts.map((own, m) => bar(own[n], n, m)),
      svg("text", { x: n * slot + 18 + 15 * models.length, y: height + 17, "text-anchor": "middle" }, label)])));
}

const STATES = { solved: ["✓", "solved"], learning: ["◐", "learning"], hopeless: ["✕", "hopeless"] };

function metAgain(problems) {
  const rows = problems.rows.filter((row) => row.points.length > 1);
  if (!rows.length) return null;
  const [first, last] = ends(rows.flatMap((row) => row.points.map((point) => point[0])));
  const columns = [problemColumn(),
    { head: `steps ${plain(first)} to ${plain(last)}`, cell: (row) => sparkline(row.points, first, last) },
    { head: "first", numeric: true, title: "pass rate", cell: (row) => share(row.points[0][1], 0) },
    { head: "last", numeric: true, title: "pass rate", cell: (row) => share(row.points.at(-1)[1], 0) },
    { head: "looks", numeric: true, title: "how often its group was kept", cell: (row) => row.points.length },
    { head: "state", cell: (row) => el("span", { class: `state ${row.state}` }, STATES[row.state].join(" ")) }];
  const count = (state) => rows.filter((row) => row.state === state).length;
  const left = problems.total - rows.length;
  return el("div", { class: "again" },
    el("h3", null, "Training problems met more than once"),
    el("p", { class: "small" }, `Among the groups kept for reading: ${count("solved")} solved, ${count("learning")} `,
      `learning, ${count("hopeless")} hopeless. `, left ? `${left} more are not listed.` : ""),
    unfolding(columns, rows, "training problems"));
}
