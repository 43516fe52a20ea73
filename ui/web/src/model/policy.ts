import type { Decision, Edge, Flow } from "./types.ts";

/** What policies decided, in words. A policy's name is "NetworkPolicy data/default-deny"; filters take it without the kind. */

export const DENIED = "POLICY_DENIED";

/** "NetworkPolicy data/default-deny" -> "data/default-deny". */
export function pathOf(name: string): string {
  return name.slice(name.indexOf(" ") + 1);
}

/** Names that say nothing but that everything is closed: beside another name, the other one tells more. */
const PLAIN = /(^|\/)(default-)?(deny|isolate)(-all|-ingress|-egress)*$/;

/** The name that says most, and how many more there are: "data/postgres-from-checkout +1". */
export function label(names: readonly string[]): string {
  const telling = names.find((n) => !PLAIN.test(n)) ?? names[0];
  if (telling === undefined) return "";
  return pathOf(telling) + (names.length > 1 ? ` +${names.length - 1}` : "");
}

/** Longest name of a label that has to fit between two columns of cards. */
const NARROW = 12;

/** Ever shorter forms of a label: without the namespace, and cut. */
export function shorter(text: string): string[] {
  const m = text.match(/^(.*?)( \+\d+)?$/s)!;
  const name = m[1]!.slice(m[1]!.indexOf("/") + 1);
  const more = m[2] ?? "";
  const room = NARROW - more.length;
  return [name + more, ...(name.length > room ? [name.slice(0, room - 1).replace(/[-.]$/, "") + "…" + more] : [])];
}

/** "a", "a and b", "a, b and c". */
export function list(names: readonly string[]): string {
  return names.length < 2 ? (names[0] ?? "") : names.slice(0, -1).join(", ") + " and " + names.at(-1);
}

/** Forms of an edge's label that names a policy, for where there is little room: without the figure or words ahead, then shorter. */
export function shortForms(text: string, names: readonly string[]): string[] {
  const name = label(names);
  return [...(name === text ? [] : [name]), ...shorter(name)];
}

/** What was decided, without the names that follow. */
export function said(verdict: string): string {
  switch (verdict) {
    case "dropped": return "default deny because of";
    case "audit": return "would be denied: default deny because of";
    default: return "allowed by";
  }
}

export function sentence(d: Decision): string {
  return `${said(d.verdict)} ${list(d.names)}`;
}

/** A text cut at the names in it, so that each can be a link; names that it lacks are left out. */
export function cut(text: string, names: readonly string[]): { text: string; name: boolean }[] {
  const out: { text: string; name: boolean }[] = [];
  for (let at = 0; at < text.length; ) {
    // Of two names that begin at one place the longer one is meant.
    const found = names.map((n) => ({ n, i: text.indexOf(n, at) })).filter((x) => x.n && x.i >= 0).sort((a, b) => a.i - b.i || b.n.length - a.n.length)[0];
    const end = found ? found.i : text.length;
    if (end > at) out.push({ text: text.slice(at, end), name: false });
    if (!found) break;
    out.push({ text: found.n, name: true });
    at = end + found.n.length;
  }
  return out;
}

/** The denial, else the audit, that an edge is known for. */
export function worst(e: Edge): Decision | undefined {
  return e.policies?.find((d) => d.verdict === "dropped") ?? e.policies?.find((d) => d.verdict === "audit");
}

/** Whether an edge loses packets, or is about to because policy denied a connection. */
export function isLossy(e: Edge): boolean {
  return e.drops > 0 || (e.denied ?? 0) > 0;
}

/** The denial behind an edge's drops, unless another reason is more frequent. */
export function denialOf(e: Edge): Decision | undefined {
  const d = worst(e);
  return d?.verdict === "dropped" && (!e.dropReason || e.dropReason === DENIED) ? d : undefined;
}

/** The policies of a flow as filters take them. */
export function pathsOf(f: Flow): string[] {
  return (f.policy?.policies ?? []).map(pathOf);
}

export interface PolicyRow {
  /** "NetworkPolicy data/default-deny". */
  name: string;
  edges: number;
  connections: number;
  packets: number;
}

/** Denials by policy, most packets first. What two policies denied together counts for each. */
export function sumPolicies(edges: readonly Edge[]): PolicyRow[] {
  const by = new Map<string, PolicyRow & { seen: Set<string> }>();
  for (const e of edges)
    for (const d of e.policies ?? []) {
      if (d.verdict !== "dropped") continue;
      for (const name of d.names) {
        const row = by.get(name) ?? { name, edges: 0, connections: 0, packets: 0, seen: new Set<string>() };
        row.edges = row.seen.add(e.id).size;
        row.connections += d.connections;
        row.packets += d.packets;
        by.set(name, row);
      }
    }
  return [...by.values()].map(({ seen: _, ...row }) => row).sort((a, b) => b.packets - a.packets || b.connections - a.connections || (a.name < b.name ? -1 : 1));
}

/** Lists of several edges as one. */
export function mergeDecisions(lists: readonly (readonly Decision[] | null | undefined)[]): Decision[] {
  const by = new Map<string, Decision>();
  for (const d of lists.flatMap((l) => l ?? [])) {
    const key = JSON.stringify([d.verdict, d.names]);
    const old = by.get(key);
    by.set(key, old ? { ...old, connections: old.connections + d.connections, packets: old.packets + d.packets, lastSeen: Math.max(old.lastSeen, d.lastSeen) } : d);
  }
  const rank = (d: Decision): number => ["dropped", "audit"].indexOf(d.verdict) + (d.verdict === "forwarded" ? 3 : 0);
  return [...by.values()].sort((a, b) => rank(a) - rank(b) || b.packets - a.packets || b.connections - a.connections);
}
