import type { Edge, TopRow } from "./types.ts";

/** Sums for the pages about drops and names. */

export interface ReasonRow {
  reason: string;
  edges: number;
  drops: number;
}

/** Drops by the most frequent reason of each edge, most first. */
export function sumDrops(edges: readonly Edge[]): ReasonRow[] {
  const by = new Map<string, ReasonRow>();
  for (const e of edges) {
    if (!(e.drops > 0)) continue;
    const reason = e.dropReason || "unknown";
    const row = by.get(reason) ?? { reason, edges: 0, drops: 0 };
    row.edges++;
    row.drops += e.drops;
    by.set(reason, row);
  }
  return [...by.values()].sort((a, b) => b.drops - a.drops);
}

export interface NameRow {
  name: string;
  rate: number;
  p95: number;
  errorPct: number;
  status: string;
}

/** DNS questions over several servers, most asked first. The p95 of a sum is not known: the worst stands for it. */
export function sumNames(rows: readonly TopRow[]): NameRow[] {
  const by = new Map<string, NameRow>();
  for (const r of rows) {
    if (r.protocol.toLowerCase() !== "dns") continue;
    const old = by.get(r.name);
    if (!old) {
      by.set(r.name, { name: r.name, rate: r.rate, p95: r.p95, errorPct: r.errorPct, status: r.status });
      continue;
    }
    const total = old.rate + r.rate;
    if (r.errorPct > old.errorPct) old.status = r.status;
    old.errorPct = total > 0 ? (old.errorPct * old.rate + r.errorPct * r.rate) / total : 0;
    old.p95 = Math.max(old.p95, r.p95);
    old.rate = total;
  }
  return [...by.values()].sort((a, b) => b.rate - a.rate);
}
