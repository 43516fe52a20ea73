/** Figures in words. A figure has at most three significant digits and always its unit: 412/s, 38 ms, 4.2 kB. */

/** Shown where a figure is not known. */
export const UNKNOWN = "–";

function figure(v: number): string {
  const a = Math.abs(v);
  if (a >= 100) return Math.round(v).toString();
  if (a >= 10) return trim(v.toFixed(a >= 99.95 ? 0 : 1));
  return trim(v.toFixed(a >= 1 ? 1 : 2));
}

function trim(s: string): string {
  return s.includes(".") ? s.replace(/\.?0+$/, "") : s;
}

function scaled(v: number, base: number, units: readonly string[]): string {
  let i = 0;
  // 0.9995 keeps 999.6 from being written as "1000" of the smaller unit.
  while (Math.abs(v) >= base * 0.9995 && i < units.length - 1) {
    v /= base;
    i++;
  }
  return figure(v) + units[i];
}

/** 1284 -> "1,284"; whole counts are never shortened. */
export function count(v: number): string {
  return Math.round(v).toLocaleString("en-US");
}

/** Per second: "412/s", "1.2k/s", "0.05/s", "<0.01/s". */
export function rate(v: number): string {
  if (v < 0) return UNKNOWN;
  if (v > 0 && v < 0.01) return "<0.01/s";
  return (v >= 10 && v < 999.5 ? Math.round(v).toString() : scaled(v, 1000, ["", "k", "M", "G"])) + "/s";
}

/** Milliseconds: "0.4 ms", "38 ms", "1.2 s", "12 µs". Negative is unknown. */
export function millis(v: number): string {
  if (v < 0 || !Number.isFinite(v)) return UNKNOWN;
  if (v === 0) return "0 ms";
  if (v < 0.1) return figure(Math.max(v * 1000, 0.1)) + " µs";
  if (v < 999.5) return (v >= 10 ? Math.round(v).toString() : figure(v)) + " ms";
  if (v < 120_000) return figure(v / 1000) + " s";
  if (v < 7_200_000) return figure(v / 60_000) + " min";
  return figure(v / 3_600_000) + " h";
}

export function micros(v: number): string {
  return v < 0 ? UNKNOWN : millis(v / 1000);
}

/** Decimal multiples, as network gear counts: "4.2 kB". */
export function bytes(v: number): string {
  return v < 0 ? UNKNOWN : scaled(v, 1000, [" B", " kB", " MB", " GB", " TB"]);
}

export function byteRate(v: number): string {
  return v < 0 ? UNKNOWN : bytes(v) + "/s";
}

/** 0..100: "3.8%", "0%", "<0.1%". Negative is unknown. */
export function percent(v: number): string {
  if (v < 0) return UNKNOWN;
  if (v > 0 && v < 0.1) return "<0.1%";
  return trim(v.toFixed(v >= 99.95 || v === 0 ? 0 : 1)) + "%";
}

const two = (n: number): string => n.toString().padStart(2, "0");

/** Local time of day: "14:16:42". */
export function clock(ms: number, seconds = true): string {
  const d = new Date(ms);
  return `${two(d.getHours())}:${two(d.getMinutes())}` + (seconds ? ":" + two(d.getSeconds()) : "");
}

/** Local time of day with milliseconds, from Unix microseconds: "14:16:42.318". */
export function clockMicros(us: number): string {
  return clock(us / 1000) + "." + Math.floor((us / 1000) % 1000).toString().padStart(3, "0");
}

/** Date and time, without the date where it is today's. */
export function when(ms: number, now = Date.now()): string {
  const d = new Date(ms);
  const sameDay = new Date(now).toDateString() === d.toDateString();
  return (sameDay ? "" : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} `) + clock(ms);
}

/** A length of time in one unit: "45 s", "15 min", "6 h", "3 days". */
export function span(ms: number): string {
  const s = Math.round(ms / 1000);
  if (s < 120 && s !== 60) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return trim((s / 3600).toFixed(1)) + " h";
  return `${Math.round(s / 86_400)} days`;
}

/** "http" -> "HTTP"; names that have capitals of their own, as ICMPv4, keep them. */
export function protocol(name: string): string {
  return name === name.toLowerCase() ? name.toUpperCase() : name;
}

export function plural(n: number, one: string, many = one + "s"): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
