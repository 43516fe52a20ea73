import { mergeDecisions } from "./policy.ts";
import type { Edge, EdgeVerdict, Node, Snapshot } from "./types.ts";

/**
 * Keeps the map readable when there are many nodes, as when the whole internet knocks: of each group the busiest have cards of
 * their own, the others share one. Nothing is hidden: the shared card carries their sums, and the table lists each.
 */

export const MAX_CARDS = 90;
export const MAX_PER_GROUP = 26;
/** Strangers are many and seldom matter one by one. */
export const MAX_STRANGERS = 10;

/** A node that had a card keeps it until another is this many times as busy: cards don't come and go. */
const KEEP = 4;

const REST = "\u0000rest";

export const restId = (group: string): string => `${group}/${REST}`;
export const isRest = (id: string): boolean => id.endsWith(REST);

export interface Folded {
  snapshot: Snapshot;
  /** Nodes without a card of their own. */
  folded: number;
  shown: ReadonlySet<string>;
}

const SEVERITY: readonly EdgeVerdict[] = ["forwarded", "audit", "error", "dropped"];

function sumEdges(id: string, src: string, dst: string, edges: readonly Edge[]): Edge {
  const total = (f: (e: Edge) => number): number => edges.reduce((s, e) => s + f(e), 0);
  const worst = (f: (e: Edge) => number): number => edges.reduce((s, e) => Math.max(s, f(e)), -1);
  const lossy = edges.reduce((a, b) => (b.drops > a.drops ? b : a));
  return {
    id, src, dst, flows: total((e) => e.flows), requests: total((e) => e.requests), errors: total((e) => e.errors), drops: total((e) => e.drops), denied: total((e) => e.denied ?? 0), audited: total((e) => e.audited ?? 0), bytes: total((e) => e.bytes),
    p50: worst((e) => e.p50), p95: worst((e) => e.p95), rtt: worst((e) => e.rtt), lastSeen: worst((e) => e.lastSeen),
    verdict: SEVERITY[Math.max(...edges.map((e) => SEVERITY.indexOf(e.verdict)), 0)]!,
    protocols: [...new Set(edges.flatMap((e) => e.protocols.split(", ")))].filter(Boolean).slice(0, 4).join(", "),
    policies: mergeDecisions(edges.map((e) => e.policies)),
    ...(lossy.dropReason ? { dropReason: lossy.dropReason } : {}),
  };
}

function restNode(group: string, nodes: readonly Node[]): Node {
  const total = (f: (n: Node) => number): number => nodes.reduce((s, n) => s + f(n), 0);
  const served = nodes.filter((n) => n.errorPct >= 0);
  const requests = served.reduce((s, n) => s + n.rate, 0);
  return {
    id: restId(group), group, name: `${nodes.length} more`, kind: "together", rate: total((n) => n.rate), rateUnit: served.length ? "req/s" : "conn/s",
    p95: nodes.reduce((s, n) => Math.max(s, n.p95), -1), errorPct: requests > 0 ? served.reduce((s, n) => s + n.errorPct * n.rate, 0) / requests : -1,
    drops: total((n) => n.drops), bytesIn: total((n) => n.bytesIn), bytesOut: total((n) => n.bytesOut), pods: 0,
  };
}

/** Nodes that get cards. `before` had them last time; `pinned` is always there. */
function choose(s: Snapshot, before: ReadonlySet<string>, pinned: string | null): Set<string> {
  const nodes = s.nodes ?? [];
  const busy = new Map<string, number>();
  for (const e of s.edges ?? []) for (const id of [e.src, e.dst]) busy.set(id, (busy.get(id) ?? 0) + e.requests + e.flows + e.drops + Math.log10(1 + e.bytes) / 100);
  const weight = (n: Node): number => (n.id === pinned ? Infinity : (busy.get(n.id) ?? 0) * (before.has(n.id) ? KEEP : 1));
  const ranked = [...nodes].sort((a, b) => weight(b) - weight(a) || (a.id < b.id ? -1 : 1));
  const perGroup = new Map<string, number>();
  const size = new Map<string, number>();
  for (const n of nodes) size.set(n.group, (size.get(n.group) ?? 0) + 1);
  const shown = new Set<string>();
  for (const n of ranked) {
    const limit = n.group === "world" ? MAX_STRANGERS : MAX_PER_GROUP;
    const used = perGroup.get(n.group) ?? 0;
    // A shared card for one would save nothing.
    if (n.id !== pinned && (size.get(n.group)! > limit + 1 ? used >= limit : false)) continue;
    if (n.id !== pinned && shown.size >= MAX_CARDS) continue;
    perGroup.set(n.group, used + 1);
    shown.add(n.id);
  }
  return shown;
}

export function fold(s: Snapshot, before: ReadonlySet<string>, pinned: string | null = null): Folded {
  const shown = choose(s, before, pinned);
  const nodes = s.nodes ?? [];
  if (shown.size === nodes.length) return { snapshot: s, folded: 0, shown };
  const rest = new Map<string, Node[]>();
  const home = new Map<string, string>();
  for (const n of nodes) {
    if (shown.has(n.id)) continue;
    home.set(n.id, restId(n.group));
    rest.set(n.group, [...(rest.get(n.group) ?? []), n]);
  }
  const own: Edge[] = [];
  const bundles = new Map<string, { src: string; dst: string; edges: Edge[] }>();
  for (const e of s.edges ?? []) {
    const src = home.get(e.src) ?? e.src;
    const dst = home.get(e.dst) ?? e.dst;
    if (src === e.src && dst === e.dst) {
      own.push(e);
      continue;
    }
    const id = `${src}>${dst}`;
    const b = bundles.get(id) ?? { src, dst, edges: [] };
    b.edges.push(e);
    bundles.set(id, b);
  }
  const edges = [...own, ...[...bundles].map(([id, b]) => sumEdges(id, b.src, b.dst, b.edges))];
  const cards = [...nodes.filter((n) => shown.has(n.id)), ...[...rest].map(([g, list]) => restNode(g, list))];
  return { snapshot: { ...s, nodes: cards, edges }, folded: nodes.length - shown.size, shown };
}
