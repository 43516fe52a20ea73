import { describe, expect, test } from "vitest";
import { big, Lab, shop } from "../dev/lab.ts";
import { overlaps, type Rect } from "../src/model/geometry.ts";
import { labelWidth, LABEL_H, passes, placeCrosses, placeLabels } from "../src/model/labels.ts";
import { arrange, EMPTY_LAYOUT, extend, geometry, type Geometry, type Layout, type LayoutEdge, type LayoutNode } from "../src/model/layout.ts";
import { layers, order, weights } from "../src/model/layers.ts";
import { boxName, Placer } from "../src/model/placer.ts";
import { along, routes, type Route } from "../src/model/route.ts";
import type { Snapshot } from "../src/model/types.ts";

const T = 1_700_000_000_000;
const snapshots: [string, Snapshot][] = [
  ["shop", new Lab(shop()).snapshot(T, T + 60_000, {})],
  ["60 workloads", new Lab(big()).snapshot(T, T + 60_000, {})],
];
const view = { w: 1300, h: 400 };
const layoutOf = (s: Snapshot): Layout => arrange(s.nodes!, s.edges!, view);

function pairs<V>(m: Iterable<V>): [V, V][] {
  const list = [...m];
  return list.flatMap((a, i) => list.slice(i + 1).map((b) => [a, b] as [V, V]));
}

const inside = (a: Rect, b: Rect): boolean => a.x >= b.x && a.y >= b.y && a.x + a.w <= b.x + b.w && a.y + a.h <= b.y + b.h;

function assertSound(l: Layout): Geometry {
  const g = geometry(l);
  expect(pairs(g.cards.values()).filter(([a, b]) => overlaps(a, b, 10))).toEqual([]);
  expect(pairs(g.groups.values()).filter(([a, b]) => overlaps(a, b, 10))).toEqual([]);
  for (const [id, c] of g.cards) expect(inside(c, g.groups.get(l.cells.get(id)!.group)!), id).toBe(true);
  return g;
}

describe.each(snapshots)("layout of %s", (_, s) => {
  const l = layoutOf(s);
  const g = geometry(l);

  test("places every workload, in its group, without overlap", () => {
    assertSound(l);
    expect([...g.cards.keys()].sort()).toEqual(s.nodes!.map((n) => n.id).sort());
  });

  test("is the same for the same input in another order", () => {
    expect(geometry(arrange([...s.nodes!].reverse(), s.edges!, view)).cards).toEqual(g.cards);
  });

  test("no edge runs under a card", () => {
    const ways = routes(g, s.edges!);
    for (const e of s.edges!) {
      const way = ways.get(e.id)!;
      for (const [id, c] of g.cards) {
        const inner = { x: c.x + 1, y: c.y + 1, w: c.w - 2, h: c.h - 2 };
        expect(passes(way, inner), `${e.id} under ${id}`).toBe(false);
      }
    }
  });

  test("edges begin and end at the sides of their cards", () => {
    const ways = routes(g, s.edges!);
    const onSide = (c: Rect, p: { x: number; y: number }): boolean =>
      ((p.x === c.x || p.x === c.x + c.w) && p.y > c.y && p.y < c.y + c.h) || ((p.y === c.y || p.y === c.y + c.h) && p.x > c.x && p.x < c.x + c.w);
    for (const e of s.edges!) {
      const way = ways.get(e.id)!;
      expect(onSide(g.cards.get(e.src)!, way.samples[0]!), e.id).toBe(true);
      expect(onSide(g.cards.get(e.dst)!, way.tip), e.id).toBe(true);
    }
  });

  test("labels touch no card, no other label, no other line", () => {
    const ways = routes(g, s.edges!);
    const rects = [...g.cards.values()];
    const { labels } = placeLabels(s.edges!.map((e, i) => ({ id: e.id, text: "123/s", rank: i })), { rects, ways }, new Map());
    expect(labels.length).toBeGreaterThan(5);
    const boxes = labels.map((p) => ({ x: p.x - p.w / 2, y: p.y - LABEL_H / 2, w: p.w, h: LABEL_H }));
    expect(pairs(boxes).filter(([a, b]) => overlaps(a, b))).toEqual([]);
    boxes.forEach((b, i) => {
      expect(rects.some((r) => overlaps(b, r))).toBe(false);
      for (const [id, way] of ways) if (id !== labels[i]!.id) expect(passes(way, { ...b, y: b.y + 2, h: b.h - 4 })).toBe(false);
    });
  });
});

test("a map that is far too dense is laid out whole, though not untangled to the end", () => {
  const nodes = Array.from({ length: 90 }, (_, i) => ({ id: `g${i % 8}/n${i}`, group: `g${i % 8}` }));
  const edges = nodes.flatMap((a, i) => Array.from({ length: 20 }, (_, k) => ({ a, b: nodes[(i * 7 + k * 11 + 1) % 90]! }))).filter((e) => e.a !== e.b).map(({ a, b }) => ({ id: `${a.id}>${b.id}`, src: a.id, dst: b.id }));
  expect(assertSound(arrange(nodes, edges)).cards.size).toBe(90);
});

describe("labels of policies", () => {
  const way: Route = { d: "", samples: [{ x: 168, y: 42 }, { x: 260, y: 42 }], tip: { x: 260, y: 42 }, dir: { x: 1, y: 0 }, box: { x: 168, y: 42, w: 92, h: 0 } };
  const cards = (gap: number): Rect[] => [-1, 0, 1].flatMap((row) => [0, 260].map((x) => ({ x, y: row * (84 + gap), w: 168, h: 84 })));
  const place = (gap: number, before = new Map()): ReturnType<typeof placeLabels> =>
    placeLabels([{ id: "e", text: "1/s data/postgres-from-checkout +1", rank: 1, must: true, shorter: ["data/postgres-from-checkout +1", "pg +1"] }], { rects: cards(gap), ways: new Map([["e", way]]) }, before);

  test("take room beside the way before they are cut", () => {
    expect(place(42).labels).toMatchObject([{ text: "1/s data/postgres-from-checkout +1", form: 0 }]);
  });
  test("are cut where there is none, and whole again when there is", () => {
    const first = place(2);
    expect(first.labels).toMatchObject([{ text: "pg +1", form: 2 }]);
    expect(place(2, first.fractions).fractions.get("e")).toBe(first.fractions.get("e"));
    expect(place(42, first.fractions).labels).toMatchObject([{ form: 0 }]);
  });
});

describe("stability", () => {
  const s = snapshots[0]![1];
  const l = layoutOf(s);
  const before = geometry(l).cards;

  test("nothing new is the same object", () => {
    expect(extend(l, s.nodes!, s.edges!)).toBe(l);
    expect(extend(l, s.nodes!.slice(3), s.edges!.slice(3))).toBe(l);
  });

  test("a new workload moves no card of its column above it, nor any in other columns", () => {
    const nodes: LayoutNode[] = [...s.nodes!, { id: "shop/new", group: "shop" }];
    const edges: LayoutEdge[] = [...s.edges!, { id: "shop/new>data/redis", src: "shop/new", dst: "data/redis" }];
    const next = extend(l, nodes, edges);
    const g = assertSound(next);
    for (const [id, c] of before) expect(g.cards.get(id), id).toEqual(c);
    expect(g.cards.has("shop/new")).toBe(true);
  });

  test("new groups stand apart from all others", () => {
    let now = l;
    for (let i = 0; i < 12; i++) now = extend(now, [{ id: `extra${i % 3}/w${i}`, group: `extra${i % 3}` }], [{ id: `e${i}`, src: "shop/frontend", dst: `extra${i % 3}/w${i}` }]);
    assertSound(now);
  });

  test("grows from nothing", () => {
    let now = EMPTY_LAYOUT;
    for (const n of s.nodes!) now = extend(now, [n], s.edges!);
    expect(assertSound(now).cards.size).toBe(s.nodes!.length);
  });

  test("labels stay where they were while they fit", () => {
    const ways = routes(geometry(l), s.edges!);
    const o = { rects: [...before.values()], ways };
    const first = placeLabels(s.edges!.map((e, i) => ({ id: e.id, text: "10/s", rank: i })), o, new Map());
    const again = placeLabels(s.edges!.map((e, i) => ({ id: e.id, text: "12/s", rank: -i })), o, first.fractions);
    for (const [id, t] of again.fractions) if (first.fractions.has(id)) expect(t).toBe(first.fractions.get(id));
  });
});

describe("Placer", () => {
  const s = snapshots[0]![1];
  const some = (n: number): Snapshot => ({ ...s, nodes: s.nodes!.slice(0, n), edges: s.edges!.filter((e) => s.nodes!.slice(0, n).some((x) => x.id === e.src) && s.nodes!.slice(0, n).some((x) => x.id === e.dst)) });

  test("keeps cards in place while data change, and when some leave and return", () => {
    const p = new Placer();
    const l = p.update("all", s, view, false);
    expect(p.update("all", { ...s }, view, false)).toBe(l);
    expect(p.update("all", some(4), view, false)).toBe(l);
    expect(p.update("all", { ...s }, view, false)).toBe(l);
  });

  test("a new subject waits for its data, then is laid out anew", () => {
    const p = new Placer();
    const l = p.update("all", s, view, false);
    expect(p.update("narrow", s, view, false)).toBe(l);
    expect(p.update("narrow", some(4), view, true).cells.size).toBe(4);
  });

  test("a map that grows at the start is laid out anew, unless a person has touched it", () => {
    const [a, b] = [new Placer(), new Placer()];
    a.update("all", some(4), view, false);
    const kept = new Map(b.update("all", some(4), view, false).cells);
    const moved = a.update("all", s, view, false);
    expect(moved.cells).toEqual(new Placer().update("all", s, view, false).cells);
    const grown = b.update("all", s, view, true);
    for (const [id, c] of kept) expect(grown.cells.get(id)).toEqual(c);
  });

  test("the place of a card that left for good goes to a new one", () => {
    const p = new Placer();
    const gone = "shop/recommend";
    const place = p.update("all", s, view, true).cells.get(gone);
    const without = (): Snapshot => ({ ...s, nodes: s.nodes!.filter((n) => n.id !== gone), edges: s.edges!.filter((e) => e.src !== gone && e.dst !== gone) });
    for (let i = 0; i < 130; i++) p.update("all", without(), view, true);
    expect(p.layout.cells.get(gone)).toEqual(place);
    const w = without();
    const l = p.update("all", { ...w, nodes: [...w.nodes!, { ...w.nodes![0]!, id: "shop/new", group: "shop" }] }, view, true);
    expect(l.cells.has(gone)).toBe(false);
    expect(l.cells.get("shop/new")).toEqual(place);
  });

  test("what mostly calls from outside has a box of its own", () => {
    const l = new Placer().update("all", s, view, false);
    const a = l.cells.get("world/198.51.100.7")!.group;
    const b = l.cells.get("world/api.stripe.example")!.group;
    expect(a).not.toBe(b);
    expect([boxName(a), boxName(b)]).toEqual(["world", "world"]);
  });
});

describe("layers", () => {
  const w = weights([["a", "b"], ["b", "c"], ["a", "c"], ["c", "b"], ["d", "c"], ["x", "x"]]);
  test("callers come before what they call, sources beside it, cycles are cut", () => {
    const l = layers(["a", "b", "c", "d", "x"], w);
    expect(l.get("a")).toBeLessThan(l.get("b")!);
    expect(l.get("b")).toBeLessThan(l.get("c")!);
    expect(l.get("d")).toBe(l.get("c")! - 1);
    expect(l.get("x")).toBe(-1);
  });
  test("a busy one comes after its callers, also in a ring", () => {
    const ring = weights([["edge", "shop", 2], ["shop", "out", 1], ["out", "edge", 1.5], ["shop", "a", 3], ["shop", "b", 3], ["edge", "b", 1]]);
    const seq = order(["shop", "edge", "out", "a", "b"], ring);
    expect(seq.indexOf("out")).toBeLessThan(seq.indexOf("edge"));
    expect(seq.indexOf("edge")).toBeLessThan(seq.indexOf("shop"));
  });
  test("the order holds every id once", () => {
    expect(order(["a", "b", "c", "d"], w).sort()).toEqual(["a", "b", "c", "d"]);
  });
});

test("a straight way has its middle in the middle", () => {
  const l = arrange([{ id: "g/a", group: "g" }, { id: "h/b", group: "h" }], [{ id: "e", src: "g/a", dst: "h/b" }]);
  const g = geometry(l);
  const way = routes(g, l.edges.values()).get("e")!;
  const mid = along(way, 0.5);
  expect(mid.y).toBe(way.tip.y);
  expect(mid.x).toBeCloseTo((way.samples[0]!.x + way.tip.x - 8) / 2);
  expect(placeCrosses(["e"], { rects: [...g.cards.values()], ways: new Map([["e", way]]) }).get("e")!.x).toBeGreaterThan(mid.x);
});

test("a changing digit doesn't change a label's width", () => {
  expect(labelWidth("41/s")).toBe(labelWidth("39/s"));
});

test("a workload that talks to itself has no line", () => {
  const l = arrange([{ id: "g/a", group: "g" }], [{ id: "e", src: "g/a", dst: "g/a" }]);
  expect(routes(geometry(l), l.edges.values()).size).toBe(0);
});
