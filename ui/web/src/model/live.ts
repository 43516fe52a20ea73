import type { Bucket, Flow, Ledger, Snapshot, Tick } from "./types.ts";

/** What the page holds of the live stream, and how a tick changes it. */

/** Rows kept in the page; older ones are in storage. */
export const FLOW_CAPACITY = 4000;

export interface LiveState {
  snapshot: Snapshot | null;
  /** Newest first. */
  flows: readonly Flow[];
  skipped: number;
  timeline: readonly Bucket[];
  ledger: Ledger | null;
  /** Of the last tick, server's clock. */
  time: number;
}

export const EMPTY_LIVE: LiveState = { snapshot: null, flows: [], skipped: 0, timeline: [], ledger: null, time: 0 };

/** Replaces buckets of the same start, adds new ones, drops those that fell out of `keep` milliseconds. */
export function mergeBuckets(old: readonly Bucket[], changed: readonly Bucket[], keep: number): Bucket[] {
  const byTime = new Map(old.map((b) => [b.time, b]));
  for (const b of changed) byTime.set(b.time, b);
  const all = [...byTime.values()].sort((a, b) => a.time - b.time);
  const end = all.at(-1);
  return end ? all.filter((b) => b.time > end.time - keep) : all;
}

/** Newest first; a row that is already there is not repeated. `fresh` is in time order, as the server sends it. */
export function prepend(rows: readonly Flow[], fresh: readonly Flow[], capacity = FLOW_CAPACITY): readonly Flow[] {
  if (!fresh.length) return rows;
  // Only rows of the same time or later can be repeats: after a reconnect the server sends its newest ones again.
  const oldest = fresh[0]!.time;
  const recent = new Set<string>();
  for (const r of rows) {
    if (r.time < oldest) break;
    recent.add(r.id);
  }
  const added = fresh.filter((f) => !recent.has(f.id)).reverse();
  return added.length ? [...added, ...rows].slice(0, capacity) : rows;
}

export const TIMELINE_SPAN = 15 * 60_000;

export function applyTick(s: LiveState, t: Tick): LiveState {
  const flows = t.flows ?? [];
  const buckets = t.timeline ?? [];
  return {
    snapshot: t.map,
    flows: t.reset ? prepend([], flows) : prepend(s.flows, flows),
    skipped: (t.reset ? 0 : s.skipped) + (t.skipped ?? 0),
    timeline: t.reset ? buckets : buckets.length ? mergeBuckets(s.timeline, buckets, TIMELINE_SPAN) : s.timeline,
    ledger: t.ledger,
    time: t.time,
  };
}

/** Milliseconds before the n-th attempt to reconnect (from 0): doubles from half a second to 15 s, with a random part so that many pages don't return at once. */
export function backoff(n: number, random = Math.random): number {
  const full = Math.min(500 * 2 ** n, 15_000);
  return full / 2 + (full / 2) * random();
}
