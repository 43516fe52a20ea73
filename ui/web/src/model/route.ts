import { GROUP_HEAD, union, type Rect, type Vec } from "./geometry.ts";
import type { Geometry, LayoutEdge } from "./layout.ts";

/**
 * The way of each edge. It leaves a card at a side and enters one at a side; it bends only between columns of cards, where no
 * card can be, and crosses a column level, where there is none at that height. So an edge never runs under a card.
 */

export interface Route {
  /** SVG path up to the base of the arrowhead. */
  d: string;
  /** Tip of the arrowhead and the direction in which it points. */
  tip: Vec;
  dir: Vec;
  /** Points on the way, close enough to place labels. */
  samples: readonly Vec[];
  /** Around all samples. */
  box: Rect;
}

type Side = "left" | "right" | "top" | "bottom";
type Card = Rect & { column: number };

/** Free air around a card that edges keep. */
const CLEAR = 8;
const LANE = 10;
const ARROW = 8;

interface Plan {
  edge: LayoutEdge;
  src: Card;
  dst: Card;
  out: Side;
  in: Side;
}

interface Interval {
  lo: number;
  hi: number;
}

/** Where a column can be crossed: gaps between cards and headings, from the top. */
function freeIntervals(g: Geometry): Interval[][] {
  const blocked: Interval[][] = g.columns.map(() => []);
  for (const c of g.cards.values()) blocked[c.column]!.push({ lo: c.y - CLEAR, hi: c.y + c.h + CLEAR });
  for (const b of g.groups.values()) blocked[b.column]!.push({ lo: b.y + 4, hi: b.y + GROUP_HEAD - 8 });
  return blocked.map((list) => {
    const out: Interval[] = [];
    let top = -Infinity;
    for (const b of list.sort((x, y) => x.lo - y.lo)) {
      if (b.lo > top) out.push({ lo: top, hi: b.lo });
      top = Math.max(top, b.hi);
    }
    out.push({ lo: top, hi: Infinity });
    return out;
  });
}

function sides(src: Card, dst: Card, cards: Iterable<Card>): [Side, Side] {
  if (src.column < dst.column) return ["right", "left"];
  if (src.column > dst.column) return ["left", "right"];
  const [lo, hi] = src.y < dst.y ? [src.y, dst.y] : [dst.y, src.y];
  for (const c of cards) if (c.column === src.column && c.y > lo && c.y < hi) return ["right", "right"];
  return src.y < dst.y ? ["bottom", "top"] : ["top", "bottom"];
}

/** Spreads the ends that share a side of a card along it, in the order of where they lead. */
function ports(plans: readonly Plan[]): Map<string, Vec> {
  const bySide = new Map<string, { key: string; card: Card; side: Side; toward: number; tie: string }[]>();
  const put = (id: string, card: Card, side: Side, end: "out" | "in", other: Card): void => {
    const flat = side === "left" || side === "right";
    const key = `${card.x},${card.y},${side}`;
    const toward = flat ? other.y : other.x;
    bySide.set(key, [...(bySide.get(key) ?? []), { key: `${id} ${end}`, card, side, toward, tie: id }]);
  };
  for (const p of plans) {
    put(p.edge.id, p.src, p.out, "out", p.dst);
    put(p.edge.id, p.dst, p.in, "in", p.src);
  }
  const at = new Map<string, Vec>();
  for (const list of bySide.values()) {
    list.sort((a, b) => a.toward - b.toward || (a.tie < b.tie ? -1 : 1));
    const { card, side } = list[0]!;
    const flat = side === "left" || side === "right";
    const room = (flat ? card.h : card.w) - 32;
    const gap = list.length > 1 ? Math.min(flat ? 13 : 26, room / (list.length - 1)) : 0;
    list.forEach((p, i) => {
      const off = (i - (list.length - 1) / 2) * gap;
      at.set(p.key, {
        x: side === "left" ? card.x : side === "right" ? card.x + card.w : card.x + card.w / 2 + off,
        y: side === "top" ? card.y : side === "bottom" ? card.y + card.h : card.y + card.h / 2 + off,
      });
    });
  }
  return at;
}

/** A detour of this much is taken rather than a gap without a free lane. */
const FULL_GAP = 150;

const isFull = (v: Interval, taken: readonly number[]): boolean => taken.filter((t) => t >= v.lo && t <= v.hi).length >= Math.floor((v.hi - v.lo - 4) / LANE) + 1;

/** Heights at which the columns between two ends are crossed: the least climbing, off the lanes that are taken. */
function crossings(from: Vec, to: Vec, between: readonly number[], free: readonly Interval[][], lanes: number[][]): number[] {
  const n = between.length;
  const gaps = between.map((c) => free[c]!.filter((v) => v.hi - v.lo >= 8));
  const options = gaps.map((list, i) => {
    const ideal = from.y + ((to.y - from.y) * (i + 1)) / (n + 1);
    return list.map((v) => Math.min(Math.max(ideal, v.lo + 4), v.hi - 4));
  });
  const full = gaps.map((list, i) => list.map((v) => (isFull(v, lanes[between[i]!] ?? []) ? FULL_GAP : 0)));
  // Shortest way over the options of each column.
  let cost = options[0]!.map((y, j) => Math.abs(y - from.y) + full[0]![j]!);
  const back: number[][] = [];
  for (let i = 1; i < n; i++) {
    const prev = options[i - 1]!;
    const ways = options[i]!.map((y) => {
      let best = 0;
      for (let k = 1; k < prev.length; k++) if (cost[k]! + Math.abs(y - prev[k]!) < cost[best]! + Math.abs(y - prev[best]!)) best = k;
      return best;
    });
    cost = options[i]!.map((y, j) => cost[ways[j]!]! + Math.abs(y - prev[ways[j]!]!) + full[i]![j]!);
    back.push(ways);
  }
  cost = cost.map((c, j) => c + Math.abs(options[n - 1]![j]! - to.y));
  let pick = cost.indexOf(Math.min(...cost));
  const out = new Array<number>(n);
  for (let i = n - 1; i >= 0; i--) {
    out[i] = lane(options[i]![pick]!, free[between[i]!]!, (lanes[between[i]!] ??= []));
    if (i > 0) pick = back[i - 1]![pick]!;
  }
  return out;
}

/** The nearest height to `y` in its gap that keeps a distance from the edges that cross there already; if it is full, the one farthest from them. */
function lane(y: number, free: readonly Interval[], taken: number[]): number {
  const gap = free.find((v) => y >= v.lo && y <= v.hi)!;
  const apart = (c: number): number => taken.reduce((d, t) => Math.min(d, Math.abs(t - c)), Infinity);
  let best = y;
  for (let k = 0; k < 48; k++) {
    const c = y + (k % 2 ? -1 : 1) * Math.ceil(k / 2) * (LANE / 4);
    if (c < gap.lo + 2 || c > gap.hi - 2) continue;
    if (apart(c) > apart(best) + 0.01) best = c;
    if (apart(best) >= LANE - 1) break;
  }
  taken.push(best);
  return best;
}

const r1 = (v: number): number => Math.round(v * 10) / 10;

/** Collects a path of lines and curves and points on it. */
class Pen {
  d: string;
  readonly samples: Vec[];
  private p: Vec;

  constructor(start: Vec) {
    this.p = start;
    this.d = `M${r1(start.x)} ${r1(start.y)}`;
    this.samples = [start];
  }

  line(to: Vec): void {
    if (Math.abs(to.x - this.p.x) + Math.abs(to.y - this.p.y) < 0.5) return;
    this.d += `L${r1(to.x)} ${r1(to.y)}`;
    const from = this.p;
    for (let i = 1; i <= 4; i++) this.samples.push({ x: from.x + ((to.x - from.x) * i) / 4, y: from.y + ((to.y - from.y) * i) / 4 });
    this.p = to;
  }

  curve(a: Vec, b: Vec, to: Vec): void {
    this.d += `C${r1(a.x)} ${r1(a.y)} ${r1(b.x)} ${r1(b.y)} ${r1(to.x)} ${r1(to.y)}`;
    const p = this.p;
    for (let i = 1; i <= 12; i++) {
      const t = i / 12;
      const u = 1 - t;
      const [k0, k1, k2, k3] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
      this.samples.push({ x: k0 * p.x + k1 * a.x + k2 * b.x + k3 * to.x, y: k0 * p.y + k1 * a.y + k2 * b.y + k3 * to.y });
    }
    this.p = to;
  }

  box(): Rect {
    return union(this.samples.map((p) => ({ ...p, w: 0, h: 0 })));
  }

  /** An S with level ends. */
  ease(to: Vec): void {
    if (Math.abs(to.y - this.p.y) < 0.5) return this.line(to);
    const mid = (this.p.x + to.x) / 2;
    this.curve({ x: mid, y: this.p.y }, { x: mid, y: to.y }, to);
  }
}

function draw(p: Plan, from: Vec, to: Vec, g: Geometry, free: readonly Interval[][], lanes: number[][]): Route {
  const pen = new Pen(from);
  if (p.out === "bottom" || p.out === "top") {
    const dir = { x: 0, y: p.out === "bottom" ? 1 : -1 };
    const base = { x: to.x, y: to.y - dir.y * ARROW };
    const mid = (from.y + base.y) / 2;
    if (Math.abs(from.x - to.x) < 0.5) pen.line(base);
    else pen.curve({ x: from.x, y: mid }, { x: to.x, y: mid }, base);
    return { d: pen.d, tip: to, dir, samples: pen.samples, box: pen.box() };
  }
  if (p.out === p.in) {
    // Both ends at the right side: a bow in the gap beside the column.
    const next = g.columns[p.src.column + 1];
    const room = next ? next.x0 - from.x - CLEAR : Infinity;
    const bow = Math.min((26 + Math.abs(to.y - from.y) * 0.12) / 0.75, room / 0.75);
    const base = { x: to.x + ARROW, y: to.y };
    pen.curve({ x: from.x + bow, y: from.y }, { x: base.x + bow, y: to.y }, base);
    return { d: pen.d, tip: to, dir: { x: -1, y: 0 }, samples: pen.samples, box: pen.box() };
  }
  const right = p.out === "right" ? 1 : -1;
  const between: number[] = [];
  for (let c = p.src.column + right; c !== p.dst.column; c += right) between.push(c);
  if (between.length)
    crossings(from, to, between, free, lanes).forEach((y, i) => {
      const c = g.columns[between[i]!]!;
      pen.ease({ x: right > 0 ? c.x0 - 2 : c.x1 + 2, y });
      pen.line({ x: right > 0 ? c.x1 + 2 : c.x0 - 2, y });
    });
  pen.ease({ x: to.x - right * ARROW, y: to.y });
  return { d: pen.d, tip: to, dir: { x: right, y: 0 }, samples: pen.samples, box: pen.box() };
}

/** Ways of all edges between placed cards. A workload's traffic to itself has none: its card says it. */
export function routes(g: Geometry, edges: Iterable<LayoutEdge>): Map<string, Route> {
  const plans: Plan[] = [];
  for (const edge of edges) {
    const src = g.cards.get(edge.src);
    const dst = g.cards.get(edge.dst);
    if (!src || !dst || src === dst) continue;
    const [o, i] = sides(src, dst, g.cards.values());
    plans.push({ edge, src, dst, out: o, in: i });
  }
  // Short ways choose first: they have the fewest ways to give way.
  plans.sort((a, b) => Math.abs(a.src.column - a.dst.column) - Math.abs(b.src.column - b.dst.column) || (a.edge.id < b.edge.id ? -1 : 1));
  const at = ports(plans);
  const free = freeIntervals(g);
  const lanes: number[][] = [];
  const out = new Map<string, Route>();
  for (const p of plans) out.set(p.edge.id, draw(p, at.get(`${p.edge.id} out`)!, at.get(`${p.edge.id} in`)!, g, free, lanes));
  return out;
}

/** The point at a fraction of the way. */
export function along(r: Route, t: number): Vec {
  const s = r.samples;
  const len = [0];
  for (let i = 1; i < s.length; i++) len.push(len[i - 1]! + Math.hypot(s[i]!.x - s[i - 1]!.x, s[i]!.y - s[i - 1]!.y));
  const want = len.at(-1)! * t;
  const i = Math.max(1, len.findIndex((l) => l >= want));
  const a = s[i - 1]!;
  const b = s[i] ?? a;
  const f = (want - len[i - 1]!) / Math.max(1e-6, len[i]! - len[i - 1]!);
  return { x: a.x + (b.x - a.x) * f, y: a.y + (b.y - a.y) * f };
}
