import { rate } from "./format.ts";
import { denialOf, isLossy, label, worst } from "./policy.ts";
import type { Edge, Flow, Node } from "./types.ts";
import type { WidthBy } from "./url.ts";

/** What became of traffic, as a class for colour and always with a sign and a word beside it. */

export interface Said {
  /** CSS class: ok, error, drop, audit. */
  tone: "ok" | "error" | "drop" | "audit";
  sign: string;
  word: string;
}

export function ofFlow(f: Flow): Said {
  if (f.kind === "verdict") return ofDecision(f.verdict);
  if (f.verdict === "dropped") {
    const names = f.policy?.policies ?? [];
    if (names.length) return { tone: "drop", sign: "✕", word: "dropped: policy " + label(names) };
    // The reason is said once: mostly it is in `what` already.
    const reason = f.reason && !f.what.startsWith(f.reason) ? " " + f.reason : "";
    return { tone: "drop", sign: "✕", word: "dropped" + reason };
  }
  if (f.verdict === "audit") return { tone: "audit", sign: "◐", word: "audit" };
  if (f.failed || f.verdict === "error") return { tone: "error", sign: "!", word: "failed" };
  return { tone: "ok", sign: "✓", word: f.verdict || "forwarded" };
}

/** What policy said of a connection. */
export function ofDecision(verdict: string): Said {
  if (verdict === "dropped") return { tone: "drop", sign: "✕", word: "policy denied" };
  if (verdict === "audit") return { tone: "audit", sign: "◐", word: "policy audit" };
  return { tone: "ok", sign: "✓", word: "policy allowed" };
}

/** Exchanges per second where the application protocol is known, else connections. */
export function edgeRate(e: Edge): number {
  return e.requests > 0 ? e.requests : e.flows;
}

export function errorPct(e: Edge): number {
  return e.requests > 0 ? Math.min(100, (e.errors / e.requests) * 100) : -1;
}

/** Colour of an edge's traffic. A single failure among thousands of exchanges is in the figures, not in the colour. */
export function edgeTone(e: Edge): Said["tone"] {
  if (isLossy(e) && !hasTraffic(e)) return "drop";
  if (errorPct(e) >= NOTABLE_ERRORS) return "error";
  return e.verdict === "audit" ? "audit" : "ok";
}

/** Seen a while ago, silent in the range that is shown. */
export function isIdle(e: Edge): boolean {
  return e.flows + e.requests + e.drops + e.bytes + (e.denied ?? 0) + (e.audited ?? 0) === 0;
}

/** An edge of which policy denies at least four in five connections is a denied one: the others are from before the policy. */
const MOSTLY = 1.25;

/** Whether an edge also carries traffic that arrives. */
export function hasTraffic(e: Edge): boolean {
  return e.requests > 0 || e.flows > Math.max(e.drops, (e.denied ?? 0) * MOSTLY);
}

/** Stroke width: a tenfold rate adds the same again. */
export function edgeWidth(e: Edge, by: WidthBy): number {
  const v = by === "bytes" ? e.bytes / 1000 : by === "connections" ? e.flows * 4 : edgeRate(e);
  return Math.min(4.5, 1.25 + 0.95 * Math.log10(1 + Math.max(0, v)));
}

/** Cards show a tone from this share of failed exchanges on, percent. */
export const NOTABLE_ERRORS = 1;

export function ofNode(n: Node): Said["tone"] {
  return n.errorPct >= NOTABLE_ERRORS ? "error" : "ok";
}

/** Text on the edge: the worst first, a denial by the name of its policy. */
export function edgeLabel(e: Edge): string {
  const denial = denialOf(e);
  if (denial) return `${e.drops > 0 ? rate(e.drops) + " " : ""}${label(denial.names)}`;
  if (e.drops > 0) return `${rate(e.drops)} ${hasTraffic(e) ? "dropped" : (e.dropReason ?? "dropped")}`;
  const pct = errorPct(e);
  const r = edgeRate(e);
  const audit = edgeTone(e) === "audit" && worst(e);
  if (audit) return `would be denied: ${label(audit.names)}`;
  if (r <= 0) return "";
  if (pct >= NOTABLE_ERRORS) return `${rate(r)} · ${pct.toFixed(pct < 10 ? 1 : 0)}% failed`;
  return rate(r);
}

export function labelRank(e: Edge): number {
  return (isLossy(e) ? 1e9 : 0) + (e.verdict === "error" ? 1e8 : 0) + edgeRate(e);
}
