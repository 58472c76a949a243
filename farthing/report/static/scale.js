// From values to pixels: round ticks, linear scales, running means. No drawing.

/** About `count` round numbers covering [low, high]. */
function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((n) => n * power >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)));
}

/** Ticks that lie inside [low, high], for the axis whose ends are the data's own. */
function innerTicks(low, high, count) {
  return ticks(low, high, count).filter((tick) => tick >= low - 1e-9 && tick <= high + 1e-9);
}

function linear(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** Centred mean of `width` values, of those there are at the ends; nulls are left out of it and stay null. */
function runningMean(values, width) {
  const half = Math.floor(width / 2);
  return values.map((value, place) => {
    if (value === null) return null;
    const near = values.slice(Math.max(0, place - half), place + half + 1).filter((other) => other !== null);
    return near.reduce((sum, other) => sum + other, 0) / near.length;
  });
}

/** How far a point lies from the middle of its neighbours, on average, as a share of the whole range. */
function roughness(points) {
  const values = points.map((point) => point[1]).filter(known);
  const [low, high] = ends(values);
  if (values.length < 3 || low === high) return 0;
  let sum = 0;
  for (let n = 1; n < values.length - 1; n += 1) sum += Math.abs(values[n] - (values[n - 1] + values[n + 1]) / 2);
  return sum / (values.length - 2) / (high - low);
}

/** [lowest, highest] of the numbers among the values, however many there are; [null, null] without any. */
function ends(values) {
  let low = null;
  let high = null;
  for (const value of values) {
    if (!known(value)) continue;
    if (low === null || value < low) low = value;
    if (high === null || value > high) high = value;
  }
  return [low, high];
}

/** The place of the entry of a sorted list that is nearest to `value`; entries may be null. */
function nearest(sorted, value) {
  let best = -1;
  let distance = Infinity;
  sorted.forEach((entry, place) => {
    if (entry === null) return;
    const apart = Math.abs(entry - value);
    if (apart < distance) { best = place; distance = apart; }
  });
  return best;
}

/** Lowest and highest y that a panel needs, references and intervals included. */
function extent(panel) {
  const values = panel.references.flatMap((line) => [line.y, line.low, line.high]);
  if (panel.kind === "stack") {
    for (const point of stacked(panel.series).at(-1)) values.push(point[2]);
  } else {
    for (const one of panel.series) {
      for (const point of one.points) values.push(point[1]);
      for (const point of one.band) values.push(point[1], point[2]);
    }
  }
  let [low, high] = ends(values);
  if (low === null) return [0, 1];
  if (panel.zero) { low = Math.min(0, low); high = Math.max(0, high); }
  return low === high ? [low, low + (Math.abs(low) || 1)] : [low, high];
}

/** Each series as [step, bottom, top], lying on the ones before it; a step that one lacks counts as nothing there. */
function stacked(series) {
  const floor = new Map();
  const steps = [...new Set(series.flatMap((one) => one.points.map((point) => point[0])))].sort((a, b) => a - b);
  return series.map((one) => {
    const heights = new Map(one.points);
    return steps.map((step) => {
      const bottom = floor.get(step) || 0;
      const top = bottom + (heights.get(step) || 0);
      floor.set(step, top);
      return [step, bottom, top];
    });
  });
}
