import { expect, test } from "vitest";
import { fold, isRest, MAX_CARDS, MAX_PER_GROUP, MAX_STRANGERS, restId } from "../src/model/fold.ts";
import type { Edge, Node, Snapshot } from "../src/model/types.ts";

const node = (id: string): Node => ({ id, group: id.split("/")[0]!, name: id, kind: "", rate: 1, rateUnit: "conn/s", p95: -1, errorPct: -1, drops: 0, bytesIn: 0, bytesOut: 0, pods: 0 });
const edge = (src: string, dst: string, flows: number, rest: Partial<Edge> = {}): Edge => ({ id: `${src}>${dst}`, src, dst, flows, requests: 0, errors: 0, drops: 0, bytes: 0, p50: -1, p95: -1, rtt: -1, verdict: "forwarded", protocols: "TCP 80", lastSeen: 0, ...rest });
const snap = (nodes: Node[], edges: Edge[]): Snapshot => ({ from: 0, to: 1, nodes, edges, groups: [] });
const strangers = Array.from({ length: 200 }, (_, i) => `world/10.0.0.${i}`);
const flood = (weight: (i: number) => number): Snapshot => snap([node("shop/web"), ...strangers.map(node)], strangers.map((s, i) => edge(s, "shop/web", weight(i), i % 2 ? { drops: 1, dropReason: "NO_SOCKET", verdict: "dropped" } : {})));

test("a map that fits is left alone", () => {
  const s = snap([node("a/b"), node("c/d")], [edge("a/b", "c/d", 1)]);
  expect(fold(s, new Set())).toMatchObject({ snapshot: s, folded: 0 });
});

test("strangers share a card that carries their sums", () => {
  const s = flood((i) => i);
  const f = fold(s, new Set());
  expect(f.folded).toBe(200 - MAX_STRANGERS);
  expect(f.snapshot.nodes).toHaveLength(1 + MAX_STRANGERS + 1);
  expect(f.shown.has("world/10.0.0.199")).toBe(true);
  const sum = (x: Snapshot, k: "flows" | "drops"): number => x.edges!.reduce((t, e) => t + e[k], 0);
  expect(sum(f.snapshot, "flows")).toBe(sum(s, "flows"));
  expect(sum(f.snapshot, "drops")).toBe(sum(s, "drops"));
  const rest = f.snapshot.edges!.find((e) => isRest(e.src))!;
  expect(rest).toMatchObject({ src: restId("world"), dst: "shop/web", verdict: "dropped", dropReason: "NO_SOCKET" });
});

test("cards stay while figures change a little, and the chosen one always has its own", () => {
  const first = fold(flood((i) => i), new Set());
  const again = fold(flood((i) => 300 - i), first.shown);
  expect([...first.shown].every((id) => again.shown.has(id))).toBe(true);
  expect(fold(flood((i) => i), new Set(), "world/10.0.0.0").shown.has("world/10.0.0.0")).toBe(true);
});

test("no more cards than can be read", () => {
  const many = Array.from({ length: 20 }, (_, g) => Array.from({ length: 40 }, (_, i) => node(`g${g}/w${i}`))).flat();
  const f = fold(snap(many, []), new Set());
  expect(f.shown.size).toBe(MAX_CARDS);
  const perGroup = new Map<string, number>();
  for (const id of f.shown) perGroup.set(id.split("/")[0]!, (perGroup.get(id.split("/")[0]!) ?? 0) + 1);
  expect(Math.max(...perGroup.values())).toBeLessThanOrEqual(MAX_PER_GROUP);
});

test("a group that is one too many keeps its cards", () => {
  const nodes = Array.from({ length: MAX_STRANGERS + 1 }, (_, i) => node(`world/${i}`));
  expect(fold(snap(nodes, []), new Set()).folded).toBe(0);
});
