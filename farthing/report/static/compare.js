// Several runs on the same charts: of each panel the first curve, once for every run.

const COMPARED = ["a", "b", "c", "d"];

/** The stages of several runs as one list; `documents`: [name, document] of each. Panels of layers have no common chart. */
function together(documents) {
  const stages = new Map();
  documents.forEach(([run, { stages: own }], n) => own.forEach((stage) => {
    const merged = stages.get(stage.name) ?? { ...stage, axis: { step: [], minutes: [], tokens: [] }, panels: new Map() };
    stages.set(stage.name, merged);
    merged.axis.step = [...new Set([...merged.axis.step, ...stage.axis.step])].sort((a, b) => a - b);
    for (const panel of stage.panels.filter(({ kind }) => kind !== "stack")) {
      const [first, ...more] = panel.series;
      const title = more.length ? `${panel.title}: ${first.label}` : panel.title;
      const shared = merged.panels.get(panel.id) ?? { ...panel, title, series: [], references: [] };
      merged.panels.set(panel.id, shared);
      shared.series.push({ ...first, label: run, style: COMPARED[n] });
    }
  }));
  return [...stages.values()].map((stage) => ({ ...stage, panels: [...stage.panels.values()] }));
}

function drawComparison(root, documents, kept) {
  const columns = [
    { head: "run", cell: ({ name, n }) => [swatch(COMPARED[n], "line"), " ", el("a", { href: `/runs/${encodeURIComponent(name)}` }, name)] },
    { head: "", cell: ({ whole }) => stateWords(whole) },
    { head: "base", numeric: true, cell: ({ claim }) => share(claim.base && claim.base["pass@1"]) },
    { head: "held out", numeric: true, cell: ({ claim }) => el("b", null, share(claim.final && claim.final["pass@1"])) },
    { head: "interval", numeric: true, mark: true, cell: ({ claim }) => (claim.final ? range(...edges(claim.final, "pass@1")) : NONE) },
    { head: "time", numeric: true, cell: ({ claim }) => duration(claim.wall_s) },
    { head: "cost", numeric: true, mark: true, cell: ({ claim }) => (known(claim.money) ? money(claim.money, claim.currency) : NONE) },
  ];
  const rows = documents.map(([name, whole], n) => ({ name, n, whole, claim: whole.headline }));
  fill(root,
    el("header", { class: "top" }, el("p", { class: "brand" }, coin(), el("span", null, "farthing")), el("h1", null, "Runs compared")),
    table(columns, rows, { "aria-label": "runs compared", class: "scroll runs" }),
    stageSections(together(documents), null, kept));
}

/** Boxes beside the runs of a list, and the button that leads to those that were chosen. */
function comparing() {
  const chosen = new Set();
  const go = el("button", { type: "button", class: "compare", listen: { click: () => {
    location.assign(`/runs?${new URLSearchParams([...chosen].map((name) => ["compare", name]))}`);
  } } });
  const changed = () => {
    go.disabled = chosen.size < 2 || chosen.size > COMPARED.length;
    go.textContent = chosen.size < 2 ? `Compare: choose two to ${COMPARED.length}` : `Compare ${chosen.size} runs`;
  };
  changed();
  return {
    go,
    box: ({ name }) => el("input", { type: "checkbox", "aria-label": `compare ${name}`, checked: chosen.has(name),
      listen: { change: ({ currentTarget }) => {
        currentTarget.checked ? chosen.add(name) : chosen.delete(name);
        changed();
      } } }),
  };
}
