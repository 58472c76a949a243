// Evaluations and costs as tables.

const MODEL_STYLES = { base: "quiet", control: "b", final: "a" };

function evaluationSection(document_) {
  const rows = document_.evaluations;
  if (!rows.length) return null;
  const several = new Set(rows.map((row) => row.task)).size > 1;
  const rates = rateNames(rows);
  const unscored = rows.some((row) => row.unscorable > 0);
  const columns = [
    { head: "model", cell: (row) => [row.model, several ? el("span", { class: "unit" }, row.task) : null] },
    { head: "", mark: true, cell: (row) => intervalStrip(row["pass@1"], ...edges(row, "pass@1"), MODEL_STYLES[row.model] || "a") },
    ...rates.map((name) => ({ head: name, numeric: true, cell: (row) => rateCell(row, name) })),
    when(rows, "language", { head: "language", numeric: true, title: "share of the thinking in the question's language", cell: (row) => rateCell(row, "language") }),
    { head: "mean length", numeric: true, title: "tokens", cell: (row) => plain(row.mean_length) },
    when(rows, "thinking_length", { head: "thinking", numeric: true, title: "tokens", cell: (row) => plain(row.thinking_length) }),
    when(rows, "wrong", { head: "wrong", numeric: true, cell: (row) => share(row.wrong) }),
    { head: "truncated", numeric: true, cell: (row) => share(row.truncated) },
    { head: "unparsable", numeric: true, cell: (row) => share(row.unparsable) },
    unscored ? { head: "not scored", numeric: true, cell: (row) => share(row.unscorable) } : null,
    { head: "problems × samples", numeric: true, cell: (row) => `${plain(row.n)} × ${plain(row.samples)}` },
    when(rows, "stage_tokens", { head: "tokens of the stage", numeric: true, cell: (row) => compact(row.stage_tokens) }),
    when(rows, "stage_money", { head: `cost, ${document_.cost.currency || "no currency"}`, numeric: true, cell: (row) => plain(row.stage_money) }),
  ].filter(Boolean);
  return section("evaluation", "Evaluation",
    table(columns, rows, { "aria-label": "evaluation" }), comparisons(document_.comparisons),
    el("p", { class: "small" }, evaluationWords(rows)));
}

// A column only where any row has something to show in it.
function when(rows, key, column) {
  return rows.some((row) => known(row[key])) ? column : null;
}

function evaluationWords(rows) {
  const { split, temperature, vote_n: voters } = rows.at(-1);
  const where = split === "train" ? "Training" : "Held-out";
  const how = known(temperature) ? `sampled at temperature ${plain(temperature)}` : "sampled";
  const votes = known(voters) ? ` pass@k and cons@k for k > 1 on ${plain(voters)} of the problems.` : "";
  return `${where} problems, answers ${how}.${votes} Small figures: interval of the rate.`;
}

function rateNames(rows) {
  const names = new Set(rows.flatMap((row) => Object.keys(row).filter((name) => /^(pass|cons)@\d+$/.test(name))));
  const order = (name) => (name.startsWith("pass") ? 0 : 1e6) + Number(name.split("@")[1]);
  return [...names].sort((a, b) => order(a) - order(b));
}

function edges(row, name) {
  const pair = row[`${name}_interval`];
  return Array.isArray(pair) ? pair : [null, null];
}

function rateCell(row, name) {
  const [low, high] = edges(row, name);
  return [el("b", null, share(row[name])), el("span", { class: "interval" }, range(low, high))];
}

function comparisons(rows) {
  return rows.length ? table([
    { head: "comparison", cell: (row) => `${row.b ?? ""} against ${row.a ?? ""}` },
    { head: "task", cell: (row) => String(row.task ?? "") },
    { head: "difference, points", numeric: true, cell: (row) => points(row.difference) },
    { head: "interval", numeric: true, cell: (row) => range(...(Array.isArray(row.interval) ? row.interval : []), points) },
    { head: "probability of better", numeric: true, cell: (row) => share(row.p_better) },
  ], rows, { "aria-label": "comparisons" }) : null;
}

function costSection(cost) {
  if (!cost.total) return null;
  const whole = cost.total.wall_s;
  const amount = moneyColumn(cost.total.money);
  const all = (head, style) => [
    { head, cell: (row) => row.name },
    { head: "", mark: true, cell: (row) => shareBar(row.wall_s, whole, style(row)) },
    { head: "time", numeric: true, cell: (row) => duration(row.wall_s) },
    { head: "share", numeric: true, cell: (row) => share(row.wall_s / whole, 0) },
    { head: "processor", numeric: true, cell: (row) => duration(row.cpu_s) },
    { head: "tokens", numeric: true, cell: (row) => compact(row.tokens) },
    { head: "FLOPs", numeric: true, cell: (row) => (row.flops ? scientific(row.flops) : NONE) },
    { head: "energy", numeric: true, cell: (row) => energy(row.energy_kwh) || NONE },
    { head: `money, ${cost.currency || "no currency"}`, numeric: true, money: true, cell: (row) => amount(row.money) },
  ];
  const columns = (head, style) => all(head, style).filter((column) => !column.money || known(cost.price));
  const sum = { ...cost.total, rowClass: "sum" };
  const waste = columns("paid for, taught nothing", () => "b").filter((column, n) => n < 4 || column.money);
  const lost = cost.waste.reduce((seconds, row) => seconds + row.wall_s, 0);
  return section("cost", "Cost",
    el("p", { class: "small" }, priceWords(cost), " ", energyWords(cost)),
    table(columns("by stage", () => "a"), [...cost.by_stage, sum], { "aria-label": "cost by stage" }),
    table(columns("by kind of work", (row) => kindStyle(row.name)), cost.by_kind, { "aria-label": "cost by kind" }),
    lost > 0 ? table(waste, cost.waste.filter((row) => row.wall_s > 0), { "aria-label": "waste" })
      : el("p", { class: "small" }, "No waste was booked."));
}

function kindStyle(name) {
  return ["generate", "train", "score"].includes(name) ? name : "other";
}

/** Energy is never measured here, so the figure says what it is made of. */
function energyWords({ watts, watts_source, core_hours }) {
  return `${plain(core_hours)} core-hours. Energy is an estimate: processor time at ${plain(watts)} W per core `
    + `(${watts_source}), without memory, disks and cooling.`;
}

function priceWords(cost) {
  const cores = `${plain(cost.cores)} ${cost.cores === 1 ? "core" : "cores"}`;
  const attempts = cost.attempts > 1 ? ` over ${cost.attempts} attempts` : "";
  return known(cost.price)
    ? `${cores} at ${money(cost.price, cost.currency)} per core-hour${attempts}; a reserved core costs the same busy or idle.`
    : `${cores}${attempts}; the recipe names no price, so nothing is counted in money.`;
}
