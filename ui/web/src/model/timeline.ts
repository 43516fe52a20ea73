import type { Bucket } from "./types.ts";

/** Bars of the timeline: the server's buckets fitted to the pixels that there are. */

export interface Bar {
  from: number;
  to: number;
  forwarded: number;
  errors: number;
  drops: number;
}

const NICE = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400].map((s) => s * 1000);

/** The shortest round step that gives at most `max` steps over `span`. */
export function niceStep(span: number, max: number): number {
  return NICE.find((s) => span / s <= max) ?? Math.ceil(span / max / 86_400_000) * 86_400_000;
}

/** One bar per step over [from, to). A step is a multiple of the widest bucket: else bars of two and of one bucket would take turns. */
export function bars(buckets: readonly Bucket[], from: number, to: number, max: number): Bar[] {
  const widest = buckets.reduce((w, b) => Math.max(w, b.width), 0);
  const least = Math.max(niceStep(to - from, max), widest);
  const step = widest > 0 ? (NICE.find((s) => s >= least && s % widest === 0) ?? Math.ceil(least / widest) * widest) : least;
  const first = Math.floor(from / step) * step;
  const n = Math.max(1, Math.ceil((to - first) / step));
  const out: Bar[] = Array.from({ length: n }, (_, i) => ({ from: first + i * step, to: first + (i + 1) * step, forwarded: 0, errors: 0, drops: 0 }));
  for (const b of buckets) {
    const bar = out[Math.floor((b.time - first) / step)];
    if (!bar || b.time < first) continue;
    bar.forwarded += b.forwarded;
    bar.errors += b.errors;
    bar.drops += b.drops;
  }
  // The first step may begin before the span, where no data are.
  if (out.length > 1 && first < from && out[0]!.forwarded + out[0]!.errors + out[0]!.drops === 0) out.shift();
  return out;
}

/** Round times for the axis, at least `min` pixels apart. */
export function ticks(from: number, to: number, width: number, min = 90): number[] {
  const step = niceStep(to - from, Math.max(1, width / min));
  // Local midnight is the origin, so that hours are whole where the zone's offset isn't.
  const zone = new Date(from).getTimezoneOffset() * 60_000;
  const out: number[] = [];
  for (let t = Math.ceil((from - zone) / step) * step + zone; t < to; t += step) out.push(t);
  return out;
}

/** Shortest range that can be drawn: below it figures mean little. */
export const MIN_RANGE = 5000;

/** A drag between two fractions of [from, to) as a range on whole seconds; null for a click. */
export function dragRange(a: number, b: number, from: number, to: number): { from: number; to: number } | null {
  const clamp = (v: number): number => Math.min(1, Math.max(0, v));
  const [lo, hi] = [clamp(Math.min(a, b)), clamp(Math.max(a, b))];
  if (hi - lo < 0.004) return null;
  const start = Math.floor((from + lo * (to - from)) / 1000) * 1000;
  const end = Math.ceil((from + hi * (to - from)) / 1000) * 1000;
  return { from: start, to: Math.max(end, start + MIN_RANGE) };
}

export interface Totals {
  forwarded: number;
  errors: number;
  drops: number;
}

/** Events in [from, to). Of a bucket that lies there in part, that part; `now` is where the last bucket's filling ends. */
export function totals(buckets: readonly Bucket[], from: number, to: number, now: number): Totals {
  const t: Totals = { forwarded: 0, errors: 0, drops: 0 };
  for (const b of buckets) {
    const end = Math.min(b.time + b.width, Math.max(now, b.time + 1));
    const part = (Math.min(to, end) - Math.max(from, b.time)) / (end - b.time);
    if (part <= 0) continue;
    t.forwarded += b.forwarded * part;
    t.errors += b.errors * part;
    t.drops += b.drops * part;
  }
  return t;
}
