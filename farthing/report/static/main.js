// The page from top to bottom.

function notices(list) {
  return list.length ? el("ul", { class: "notices", "aria-label": "notices" }, list.map((text) => el("li", null, text))) : null;
}

function navigationBar(name, sections) {
  return el("nav", { "aria-label": "sections" }, el("a", { href: "#report", class: "name" }, name),
    sections.map((node) => el("a", { href: `#${node.id}` },
      node.querySelector("h2").textContent)));
}

function mount(root, document_) {
  const samples = samplesSection(document_.samples);
  const stages = stageSections(document_.stages, samples.open);
  const rest = [samples.node, evaluationSection(document_), problemsSection(document_.held_out, document_.problems),
    costSection(document_.cost), provenanceSection(document_)].filter(Boolean);
  const nothing = stages.length || samples.node || document_.evaluations.length ? null
    : el("p", { class: "empty" }, "Nothing has been logged yet.");
  fill(root,
    headerSection(document_), stageList(document_.stage_states), alarmList(document_.alarms, showChart),
    notices(document_.notices), nothing, stages, rest,
    el("footer", null, "One file, made by farthing from a run directory. It asks nothing of the network."));
  document.body.prepend(navigationBar(document_.name, [...stages, ...rest]));
}

mount(document.getElementById("report"), JSON.parse(document.getElementById("document").textContent));
