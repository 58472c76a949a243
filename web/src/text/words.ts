// Numbers and times in words.

const UNKNOWN = "–";

export function plain(value: number | null | undefined): string {
  return value === null || value === undefined ? UNKNOWN : value.toLocaleString("en");
}

/** 3.24 -> "3.2 s", 75 -> "1 min 15 s" */
export function seconds(value: number): string {
  if (value < 60) return `${value.toFixed(1)} s`;
  return `${Math.floor(value / 60)} min ${String(Math.floor(value % 60)).padStart(2, "0")} s`;
}

export function rate(value: number | null | undefined): string | null {
  return value === null || value === undefined ? null : `${value >= 10 ? Math.round(value).toLocaleString("en") : value.toFixed(1)} tokens/s`;
}

/** 26016 -> "26 thousand", 1.7e9 -> "1.7 billion" */
export function count(value: number): string {
  for (const [unit, word] of [[1e9, "billion"], [1e6, "million"], [1e3, "thousand"]] as const) {
    if (value >= unit) return `${Number((value / unit).toPrecision(3))} ${word}`;
  }
  return String(value);
}

/** Under which heading of the list a conversation of that time stands. */
export function day(time: number, now: number): string {
  const start = new Date(now).setHours(0, 0, 0, 0);
  const then = time * 1000;
  if (then >= start) return "Today";
  if (then >= start - 86_400_000) return "Yesterday";
  if (then >= start - 6 * 86_400_000) return "This week";
  return new Date(then).toLocaleDateString("en", { month: "long", year: "numeric" });
}

/** 1048576 -> "1 MB", 2100 -> "2.1 KB" */
export function bytes(value: number): string {
  for (const [unit, word] of [[1 << 20, "MB"], [1 << 10, "KB"]] as const) {
    if (value >= unit) return `${Number((value / unit).toPrecision(2))} ${word}`;
  }
  return `${value} bytes`;
}
