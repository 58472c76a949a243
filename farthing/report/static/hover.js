// Reading a chart: the pointer or the arrow keys choose a step, every chart of the stage answers with its values.

/** The point of a series at a step, or the nearest one before or after it. */
function pointAt(one, step) {
  return one.points[nearest(one.points.map((point) => point[0]), step)];
}

function valueText(one, step, write, few) {
  const point = pointAt(one, step);
  const edges = one.band.find((entry) => entry[0] === point[0]);
  const interval = edges && !few ? ` (${range(edges[1], edges[2], write)})` : "";
  const value = point[1] === null ? "not finite" : write(point[1]);
  return `${value}${interval}${point[0] === step ? "" : ` at ${plain(point[0])}`}`;
}

/** The charts of one stage, moving together. `open(step)` leads to the samples of a step. */
function hub(stage, open) {
  const members = [];
  const steps = stage.axis.step;
  return {
    steps,
    axisName: "step",
    join: (member) => members.push(member),
    show: (step) => members.forEach((member) => member.show(step)),
    rest: () => members.forEach((member) => member.show(null)),
    use(name) {
      this.axisName = stage.axis[name].some(known) ? name : "step";
      members.forEach((member) => member.redraw());
    },
    open: (step) => { if (open) open(stage.name, step); },
    when(step) {
      const place = steps.indexOf(step);
      const minutes = stage.axis.minutes[place];
      return `step ${plain(step)}${known(minutes) ? ` · ${duration(60 * minutes)}` : ""}`;
    },
  };
}

/** Let pointer and keys move the cursor of a chart; `view()` is its present drawing. */
function makeReadable(frame, together, view) {
  let current = together.steps.at(-1);
  const move = (step) => { current = step; together.show(step); };
  frame.addEventListener("pointermove", (event) => {
    if (!view()) return;
    const inside = event.clientX - frame.getBoundingClientRect().left;
    move(together.steps[nearest(together.steps.map((step) => view().x(step)), inside)]);
  });
  frame.addEventListener("pointerleave", () => together.rest());
  frame.addEventListener("blur", () => together.rest());
  frame.addEventListener("focus", () => { if (frame.matches(":focus-visible")) move(current); });
  frame.addEventListener("dblclick", () => together.open(current));
  frame.addEventListener("keydown", (event) => {
    const last = together.steps.length - 1;
    const place = together.steps.indexOf(current);
    const jump = Math.max(1, Math.round(last / 10));
    const goal = { ArrowLeft: place - 1, ArrowRight: place + 1, ArrowDown: place - 1, ArrowUp: place + 1,
      PageDown: place - jump, PageUp: place + jump, Home: 0, End: last }[event.key];
    if (event.key === "Enter") together.open(current);
    else if (goal === undefined) return;
    else move(together.steps[Math.min(last, Math.max(0, goal))]);
    event.preventDefault();
  });
}

/** The cursor line and a ring on every curve at this step. */
function drawCursor(panel, view, step) {
  const at = view.x(step);
  const rings = panel.kind === "stack" ? [] : panel.series.map((one) => {
    const [where, value] = pointAt(one, step);
    return value === null ? null : svg("circle", { class: `ring ${one.style}`, cx: view.x(where), cy: view.y(value), r: 4 });
  });
  fill(view.cursor,
    svg("line", { x1: at, x2: at, y1: MARGIN.top, y2: view.height - MARGIN.bottom }), rings);
}
