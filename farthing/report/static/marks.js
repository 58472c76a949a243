// Small drawings inside text: verdicts, interval strips, shares, sparklines. Meaning never hangs on colour alone.

const VERDICTS = {
  right: ["✓", "right"],
  partial: ["◐", "partly right"],
  wrong: ["✕", "wrong"],
  truncated: ["…", "truncated"],
  unparsable: ["∅", "unparsable"],
  unscored: ["?", "could not be scored"],
};

/** The sign and the words of a verdict, or of a flag by its name. */
const markWords = (name) => VERDICTS[name] || ["⚑", name.replaceAll("_", " ")];

function verdictMark(verdict) {
  const [glyph, word] = VERDICTS[verdict];
  return el("span", { class: `verdict ${verdict}`, title: word, role: "img", "aria-label": word }, glyph);
}

/** A rate with its interval on a line from 0 to 100%. */
function intervalStrip(rate, low, high, style, width = 150) {
  const at = linear(0, 1, 5, width - 5);
  return svg("svg", { class: `strip series ${style}`, width, height: 16, viewBox: `0 0 ${width} 16`, role: "img",
    "aria-label": `${share(rate)}, interval ${range(low, high) || "unknown"}` },
  svg("line", { class: "track", x1: at(0), x2: at(1), y1: 8, y2: 8 }),
  known(low) && known(high) ? svg("line", { class: "whisker", x1: at(low), x2: at(high), y1: 8, y2: 8 }) : null,
  svg("circle", { class: "dot", cx: at(rate), cy: 8, r: 3.6 }));
}

/** A bar whose length is a share of the whole. */
function shareBar(part, whole, style) {
  const width = whole > 0 ? Math.max(0, Math.min(100, (100 * part) / whole)) : 0;
  return svg("svg", { class: `bar series ${style}`, width: 100, height: 10, viewBox: "0 0 100 10", "aria-hidden": "true" },
    svg("rect", { class: "track", x: 0, y: 1, width: 100, height: 8, rx: 1.5 }),
    svg("rect", { class: "layer", x: 0, y: 1, width, height: 8, rx: 1.5 }));
}

/** An advantage as a bar to the left (below the group's mean) or to the right of a middle line. */
function advantageBar(value, largest) {
  const length = known(value) && largest > 0 ? (22 * Math.abs(value)) / largest : 0;
  return svg("svg", { class: "advantage", width: 48, height: 10, viewBox: "0 0 48 10", "aria-hidden": "true" },
    svg("rect", { class: value < 0 ? "below" : "above", x: value < 0 ? 24 - length : 24, y: 2, width: length, height: 6 }),
    svg("line", { x1: 24, x2: 24, y1: 0, y2: 10 }));
}

/** Rates over steps in the space of a word. */
function sparkline(pairs, first, last) {
  const x = linear(first, last, 4, 136);
  const y = linear(0, 1, 19, 4);
  const places = pairs.map(([step, rate]) => [x(step), y(rate)]);
  return svg("svg", { class: "spark series a", width: 140, height: 23, viewBox: "0 0 140 23", role: "img",
    "aria-label": `pass rate from ${share(pairs[0][1], 0)} to ${share(pairs.at(-1)[1], 0)}` },
  svg("line", { class: "track", x1: 0, x2: 140, y1: 21, y2: 21 }),
  svg("path", { class: "curve", d: path(places) }),
  places.map(([cx, cy]) => svg("circle", { class: "dot", cx, cy, r: 1.8 })));
}
