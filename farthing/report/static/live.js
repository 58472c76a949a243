// The report of a run that may still be going on, and the list of all runs: asked for again every few seconds, drawn again
// when something has changed and nobody is in the middle of reading a value.

const EVERY = 3000;
const KEPT_STEPS = 40;
const LINKS = () => [el("a", { href: "/" }, "Chat"), el("a", { href: "/runs" }, "Runs")];

/** What the server has at a path, or null while it is the same as last time. Throws in the server's words. */
function asking(path) {
  let tag = null;
  return async () => {
    const answer = await fetch(path, { headers: tag ? { "if-none-match": tag } : {} });
    if (answer.status === 304) return null;
    if (!answer.ok) {
      const said = await answer.json().catch(() => null);
      throw new Error(said && said.error ? said.error.message : answer.statusText);
    }
    tag = answer.headers.get("etag");
    return answer.json();
  };
}

/** Asks for the groups of a step of a run, and keeps those that were looked at last. The newest step may still grow; and
    after a rollback the same steps are others, so everything is forgotten when one has gone from the list. */
function asker(name) {
  const path = `/api/runs/${encodeURIComponent(name)}/samples`;
  const kept = new Map();
  let listed = [];
  const key = (stage, step) => JSON.stringify([stage, step]);
  return {
    heard({ samples }) {
      const now = samples.steps.map(([stage, step]) => key(stage, step));
      if (listed.some((one, n) => one !== now[n])) kept.clear();
      kept.delete(listed.at(-1));
      listed = now;
    },
    async find(places, text) {
      const { steps } = await asking(`${path}?${new URLSearchParams({ find: text })}`)();
      const found = new Set(steps.map(([stage, step]) => key(stage, step)));
      return places.filter(({ stage, step }) => found.has(key(stage, step)));
    },
    async groups({ stage, step }) {
      const place = key(stage, step);
      if (!kept.has(place)) {
        const found = await asking(`${path}?${new URLSearchParams({ stage, step })}`)();
        if (kept.size >= KEPT_STEPS) kept.delete(kept.keys().next().value);
        kept.set(place, found.groups);
      }
      return kept.get(place);
    },
  };
}

/** Whether drawing again would take something out of a reader's hands. */
function isReading(root) {
  const chosen = document.getSelection();
  return root.querySelector(".plot:hover, .plot:focus, input:active, input[type=search]:focus, select:focus") !== null
    || (chosen !== null && !chosen.isCollapsed && root.contains(chosen.anchorNode));
}

/** Replace what is on the page without moving what is on the screen, the focus in the list of samples included. */
function steadily(root, draw) {
  const inList = document.activeElement && document.activeElement.matches("#samples .list");
  const opened = [...root.querySelectorAll("details.more[open]")].map((node) => node.closest("section").id);
  const at = scrollY;
  root.style.minHeight = `${root.offsetHeight}px`;
  draw();
  for (const id of opened) document.querySelectorAll(`#${id} details.more`).forEach((node) => { node.open = true; });
  if (inList) document.querySelector("#samples .list").focus({ preventScroll: true });
  requestAnimationFrame(() => { root.style.minHeight = ""; scrollTo({ top: at }); });
}

function stateOf(run) {
  const steps = known(run.steps) && run.steps > 0 ? `${plain(run.step)} of ${plain(run.steps)}` : "";
  return el("span", { class: `pill ${STATE_WORDS[run.state] || "unknown"}` },
    [STATE_WORDS[run.state] || "state unknown", run.stage && run.state !== "finished" ? `${run.stage} ${steps}` : null]
      .filter(Boolean).join(", "));
}

function drawRuns(root, { runs }, compare) {
  const columns = [
    { head: "run", cell: (run) => el("a", { href: `/runs/${encodeURIComponent(run.name)}` }, run.name) },
    { head: "task", mark: true, cell: (run) => run.task || NONE },
    { head: "", cell: stateOf },
    { head: "base", numeric: true, cell: (run) => share(run.base) },
    { head: "held out", numeric: true, cell: (run) => el("b", null, share(run.final)) },
    { head: "interval", numeric: true, mark: true, cell: (run) => range(run.low, run.high) || NONE },
    { head: "last change", numeric: true, mark: true, cell: (run) => new Date(1000 * run.changed).toLocaleString("en", { dateStyle: "medium",
      timeStyle: "short" }) },
    { head: "", mark: true, cell: compare.box },
  ];
  fill(root, el("header", { class: "top" }, el("p", { class: "brand" }, coin(), el("span", null, "farthing")), el("h1", null, "Runs")),
    runs.length ? [table(columns, runs, { "aria-label": "runs", class: "scroll runs" }), runs.length > 1 ? compare.go : null]
      : el("p", { class: "empty" }, "There is no run here yet."));
}

function trouble(root, message) {
  const place = document.querySelector(".trouble") || el("p", { class: "trouble", role: "status" });
  fill(place, message);
  if (message && !place.isConnected) root.before(place);
  place.hidden = !message;
}

/** Draw what the server has, again whenever it changes. `asks`: what has to be asked for; `draw` gets the answers. */
async function live(root, asks, draw) {
  const found = asks.map(() => null);
  let fresh = false;
  for (;;) {
    try {
      const answers = document.hidden && root.childElementCount > 1 ? [] : await Promise.all(asks.map((ask) => ask()));
      answers.forEach((answer, n) => { if (answer) { found[n] = answer; fresh = true; } });
      trouble(root, "");
    } catch (problem) {
      trouble(root, `${problem.message}; asking again`);
    }
    if (fresh && found.every(Boolean) && !isReading(root)) {
      fresh = false;
      steadily(root, () => draw(found));
    }
    await new Promise((wake) => { setTimeout(wake, EVERY); });
  }
}

function begin() {
  const root = document.getElementById("report");
  const name = decodeURIComponent((/^\/runs\/([^/]+)$/.exec(location.pathname) || [])[1] || "");
  const compared = new URLSearchParams(location.search).getAll("compare").slice(0, COMPARED.length);
  const ofRun = (run) => asking(`/api/runs/${encodeURIComponent(run)}`);
  let kept = {};
  if (name) {
    const samples = asker(name);
    document.title = `${name} · farthing`;
    return live(root, [ofRun(name)], ([found]) => {
      samples.heard(found);
      kept = mount(root, found, { kept, links: LINKS(), foot: "Read again while the run goes on.", ask: samples });
    });
  }
  if (!document.querySelector("body > nav")) document.body.prepend(el("nav", { "aria-label": "pages" }, LINKS()));
  if (compared.length) {
    document.title = `${compared.join(", ")} · farthing`;
    return live(root, compared.map(ofRun), (found) => drawComparison(root, found.map((one, n) => [compared[n], one]), kept));
  }
  const compare = comparing();
  return live(root, [asking("/api/runs")], ([found]) => drawRuns(root, found, compare));
}

begin();
