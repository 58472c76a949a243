// The page from top to bottom. main.js draws it once, from the file it stands in; live.js again and again.

function notices(list) {
  return list.length ? el("ul", { class: "notices", "aria-label": "notices" }, list.map((text) => el("li", null, text))) : null;
}

function navigationBar(name, sections, links) {
  return el("nav", { "aria-label": "sections" }, links, el("a", { href: "#report", class: "name" }, name),
    sections.map((node) => el("a", { href: `#${node.id}` },
      node.querySelector("h2").textContent)));
}

/** Draw a document. `kept`: what a reader had chosen, where the same run is drawn again; `links` lead elsewhere; `ask`
    promises the groups of a step that the document only names. Returns what has been chosen, for the next time. */
function mount(root, document_, { kept = {}, links = null, foot, ask } = {}) {
  const samples = samplesSection(document_.samples, kept.samples, ask);
  const stages = stageSections(document_.stages, samples.open, kept);
  const rest = [samples.node, evaluationSection(document_), problemsSection(document_.held_out, document_.problems),
    costSection(document_.cost), provenanceSection(document_)].filter(Boolean);
  const nothing = stages.length || samples.node || document_.evaluations.length ? null
    : el("p", { class: "empty" }, "Nothing has been logged yet.");
  fill(root,
    headerSection(document_), stageList(document_.stage_states), alarmList(document_.alarms, showChart),
    notices(document_.notices), nothing, stages, rest, el("footer", null, foot));
  const old = document.querySelector("body > nav");
  const bar = navigationBar(document_.name, [...stages, ...rest], links);
  if (old) old.replaceWith(bar);
  else document.body.prepend(bar);
  return { ...kept, samples: samples.where };
}
