// Numbers as people read them. A missing value is an en dash, never a zero.

const NONE = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 0.0651 -> "6.5%" */
function share(value, digits = 1) {
  return known(value) ? `${(100 * value).toFixed(digits)}%` : NONE;
}

/** 0.486 -> "+48.6" (percentage points) */
function points(value) {
  if (!known(value)) return NONE;
  const text = Math.abs(100 * value).toFixed(1);
  return `${value < 0 ? "−" : "+"}${text}`;
}

/** [0.44, 0.53] -> "44.0–53.0%"; with another writer "+44.0 to +53.0". */
function range(low, high, show = share) {
  if (!known(low) || !known(high)) return "";
  return show === share ? `${share(low).slice(0, -1)}–${share(high)}` : `${show(low)} to ${show(high)}`;
}

/** Three significant digits, with thousands separated and very small or large numbers in powers of ten. */
function plain(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e7 || size < 1e-4) return scientific(value);
  if (Number.isInteger(value) || size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** A number with its sign, for what lies above or below a mean. */
function signed(value) {
  return known(value) ? `${value > 0 ? "+" : value < 0 ? "−" : ""}${plain(Math.abs(value))}` : NONE;
}

const SUPERSCRIPT = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function scientific(value) {
  const [digits, power] = value.toExponential(2).split("e");
  const raised = Array.from(String(Number(power)), (c) => SUPERSCRIPT[c]).join("");
  return `${Number(digits)}×10${raised}`;
}

/** 3_140_000 -> "3.14M" */
function compact(value) {
  if (!known(value)) return NONE;
  for (const [unit, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= unit) return `${Number((value / unit).toPrecision(3))}${letter}`;
  }
  return plain(value);
}

/** Seconds as "42 s", "9 min 48 s", "3 h 07 min". */
function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 9.95) return `${Number(seconds.toPrecision(2))} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** 0.01309, "EUR" -> "0.013 EUR"; two digits below one, cents above. */
function money(value, currency) {
  if (!known(value)) return NONE;
  const amount = value === 0 ? "0" : value < 1 ? String(Number(value.toPrecision(2))) : value.toFixed(2);
  return currency ? `${amount} ${currency}` : amount;
}

/** 0.00213 -> "2.1 Wh", 1.5 -> "1.5 kWh"; "" where nothing is known. */
function energy(kwh) {
  if (!known(kwh)) return "";
  return kwh < 1 ? `${Number((1000 * kwh).toPrecision(2))} Wh` : `${plain(Number(kwh.toPrecision(2)))} kWh`;
}

/** A writer for a column of money whose largest entry is `most`: equal decimals, two digits of the largest at least. */
function moneyColumn(most) {
  const decimals = known(most) && most > 0 ? Math.max(2, 3 - Math.ceil(Math.log10(most))) : 2;
  return (value) => (known(value) ? value.toFixed(Math.min(decimals, 12)) : NONE);
}

/** The writer for a chart's unit. */
function writer(unit) {
  if (unit === "share") return share;
  if (unit === "seconds") return (value) => (known(value) ? `${plain(value)} s` : NONE);
  return plain;
}
