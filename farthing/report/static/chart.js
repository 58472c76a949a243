// One chart as SVG: axes with units, curves, interval bands, reference lines. What is drawn is what was logged; where
// a curve is noisy the running mean is laid over the pale points, and the caption says over how many steps.

const MARGIN = { top: 10, right: 5, bottom: 40 };
const SMOOTH_FROM = 60;
const DOTS_UP_TO = 40;
const MEANS_ACROSS = 30;
const EVEN = 0.004;

/** How many steps the running mean of a series covers; 0 where every point is drawn as it is: few points, points with
    an interval, or a curve so even that a mean would only blunt it. */
function smoothing(one) {
  if (one.left_out || one.points.length < SMOOTH_FROM || one.band.length || roughness(one.points) < EVEN) return 0;
  return 2 * Math.floor(one.points.length / MEANS_ACROSS / 2) + 1;
}

/** Where a step lies on the chosen axis; a step without an entry lies where its neighbour does. */
function positions(axis, name) {
  const values = axis[name];
  const at = new Map(axis.step.map((step, place) => [step, values[place]]));
  return (step) => {
    if (name === "step") return step;
    const value = at.get(step);
    return value === undefined ? values[nearest(axis.step, step)] : value;
  };
}

function tickWriter(unit, marks) {
  const gap = marks.length > 1 ? marks[1] - marks[0] : 1;
  if (unit === "share") return (value) => share(value, gap < 0.0099 ? 1 : 0);
  return (value) => (Math.abs(value) >= 10000 ? compact(value) : plain(value));
}

/** Paint a panel into an SVG of this size; returns it with the functions that a cursor needs. */
function paint(panel, axis, axisName, width, height) {
  const [low, high] = extent(panel);
  const marks = ticks(low, high, height > 240 ? 6 : 4);
  const bottom = panel.zero ? marks[0] : Math.min(marks[0], low);
  const top = panel.unit === "share" && high <= 1 ? Math.min(1, marks.at(-1)) : marks.at(-1);
  const write = tickWriter(panel.unit, marks);
  const left = 10 + 6.6 * Math.max(...marks.map((mark) => write(mark).length));
  const place = positions(axis, axisName);
  const [first, last] = ends(axis[axisName]);
  const start = axisName === "minutes" ? first : Math.min(0, first);
  const x = linear(start, last, left, width - MARGIN.right);
  const y = linear(bottom, top, height - MARGIN.bottom, MARGIN.top);
  const view = { x: (step) => x(place(step)), y, left, width, height, low: bottom, high: top };
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    grid(view, marks.filter((mark) => mark <= top + 1e-12), write),
    timeAxis(view, x, start, last, axisName),
    panel.kind === "stack" ? layers(panel, view) : curves(panel, view),
    panel.kind === "stack" ? null : referenceLines(panel, view));
  const cursor = svg("g", { class: "cursor" });
  root.append(cursor);
  return { root, cursor, ...view };
}

function grid(view, marks, write) {
  return marks.map((mark) => svg("g", { class: "grid" },
    svg("line", { x1: view.left, x2: view.width - MARGIN.right, y1: view.y(mark), y2: view.y(mark) }),
    svg("text", { x: view.left - 7, y: view.y(mark) + 3.5, "text-anchor": "end" }, write(mark))));
}

function timeAxis(view, x, low, high, name) {
  const base = view.height - MARGIN.bottom;
  const marks = innerTicks(low, high, Math.max(2, view.width / 110));
  return svg("g", { class: "axis" },
    svg("line", { x1: view.left, x2: view.width - MARGIN.right, y1: base, y2: base }),
    marks.map((mark) => [
      svg("line", { x1: x(mark), x2: x(mark), y1: base, y2: base + 4 }),
      svg("text", { x: x(mark), y: base + 16, "text-anchor": "middle" }, compact(mark)),
    ]),
    svg("text", { class: "name", x: view.width - MARGIN.right, y: base + 35, "text-anchor": "end" }, name));
}

/** A path through [x, y] pairs that is broken wherever y is null. */
function path(pairs) {
  let pen = "M";
  let text = "";
  for (const [x, y] of pairs) {
    if (y === null) { pen = "M"; continue; }
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return text;
}

function area(upper, lower) {
  return upper.length ? `${path(upper)}${path(lower.reverse()).replace("M", "L")}Z` : "";
}

function curves(panel, view) {
  const at = (value) => (value === null ? null : view.y(value));
  return panel.series.map((one) => {
    const pairs = one.points.map(([step, value]) => [view.x(step), at(value)]);
    const width = smoothing(one);
    const group = svg("g", { class: `series ${one.style}` }, band(one, view));
    if (width) {
      const means = runningMean(one.points.map((point) => point[1]), width);
      group.append(svg("path", { class: "raw", d: path(pairs) }),
        svg("path", { class: "curve", d: path(means.map((value, n) => [pairs[n][0], at(value)])) }));
    } else {
      group.append(svg("path", { class: "curve", d: path(pairs) }));
      if (pairs.length <= DOTS_UP_TO) group.append(...dots(pairs));
    }
    return append(group, broken(pairs, view));
  });
}

function dots(pairs) {
  return pairs.filter((pair) => pair[1] !== null).map(([x, y]) => svg("circle", { class: "dot", cx: x, cy: y, r: 2.6 }));
}

/** A cross on the axis where a value was not a finite number. */
function broken(pairs, view) {
  const base = view.height - MARGIN.bottom;
  return pairs.filter((pair) => pair[1] === null).map(([x]) =>
    svg("path", { class: "broken", d: `M${x - 3} ${base - 6}l6 6m0 -6l-6 6` }));
}

function band(one, view) {
  if (one.band.length === 1) {
    const [step, low, high] = one.band[0];
    return svg("line", { class: "whisker", x1: view.x(step), x2: view.x(step), y1: view.y(low), y2: view.y(high) });
  }
  const edge = (place) => one.band.map((point) => [view.x(point[0]), view.y(point[place])]);
  return one.band.length ? svg("path", { class: "band", d: area(edge(2), edge(1)) }) : null;
}

/** Curves on top of each other, each drawn as its running mean where there are many points. */
function layers(panel, view) {
  const width = Math.max(...panel.series.map(smoothing));
  const smooth = panel.series.map((one) => {
    if (!width) return one;
    const means = runningMean(one.points.map((point) => point[1]), width);
    return { ...one, points: one.points.map((point, n) => [point[0], means[n]]) };
  });
  return stacked(smooth).map((layer, n) => svg("g", { class: `series ${panel.series[n].style}` },
    svg("path", { class: "layer", d: area(layer.map((p) => [view.x(p[0]), view.y(p[2])]),
      layer.map((p) => [view.x(p[0]), view.y(p[1])])) })));
}

/** Dashed lines across the chart, their names at the right, kept apart where two lie close together. */
function referenceLines(panel, view) {
  const sorted = [...panel.references].sort((a, b) => b.y - a.y);
  const close = sorted.length > 1 && view.y(sorted[1].y) - view.y(sorted[0].y) < 18;
  return sorted.map((line, n) => {
    const at = view.y(line.y);
    const from = { x: view.left, width: Math.max(0, view.width - MARGIN.right - view.left) };
    const below = close && n > 0 && at + 14 < view.height - MARGIN.bottom;
    return svg("g", { class: `reference ${line.label}` },
      known(line.low) && known(line.high)
        ? svg("rect", { ...from, y: view.y(line.high), height: Math.max(0, view.y(line.low) - view.y(line.high)) })
        : null,
      svg("line", { x1: view.left, x2: view.width - MARGIN.right, y1: at, y2: at }),
      svg("text", { x: view.width - MARGIN.right - 2, y: below ? at + 13 : at - 5, "text-anchor": "end" },
        `${line.label} ${share(line.y)}`));
  });
}
