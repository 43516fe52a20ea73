import { CARD, GAP, GROUP_GAP, GROUP_HEAD, GROUP_PAD, PITCH, union, type Rect } from "./geometry.ts";
import { layers, weights } from "./layers.ts";
import { Untangler } from "./untangle.ts";

/**
 * Where each card is. Groups stand in columns, callers left; the cards of a group stand in a grid. A layout remembers every
 * card that it placed, also one that is not seen now, so that nothing moves while data change: `extend` only adds.
 */

export interface LayoutNode {
  id: string;
  group: string;
}

export interface LayoutEdge {
  id: string;
  src: string;
  dst: string;
  /** How much it says about who calls whom; 1 if not given. */
  weight?: number | undefined;
}

export interface Cell {
  group: string;
  col: number;
  row: number;
}

export interface GroupPlace {
  /** Column of groups, from the left. */
  column: number;
  y: number;
  /** Columns of cards; never grows after arrange, or all to the right would move. */
  cols: number;
}

export interface Layout {
  readonly groups: ReadonlyMap<string, GroupPlace>;
  readonly cells: ReadonlyMap<string, Cell>;
  readonly edges: ReadonlyMap<string, LayoutEdge>;
}

/** A column of cards over the whole map: between two of them no card is in the way. */
export interface Column {
  x0: number;
  x1: number;
}

export interface Geometry {
  cards: ReadonlyMap<string, Rect & { column: number }>;
  groups: ReadonlyMap<string, Rect & { column: number }>;
  columns: readonly Column[];
  bounds: Rect;
}

export const EMPTY_LAYOUT: Layout = { groups: new Map(), cells: new Map(), edges: new Map() };

/** Room for the map, in its own units. */
export interface View {
  w: number;
  h: number;
}

/** How wide a group's grid is for its height: all are tried. */
const GRIDS = [0.35, 0.6, 1, 1.6];
/** Loss of zoom that is worth it to have all calls between columns instead of within. */
const SAME_COLUMN = 0.3;

/** Cards in a group with `n` of them go in this many columns. */
function gridColumns(n: number, grid: number): number {
  return Math.max(1, Math.round(Math.sqrt(n * grid)));
}

const boxHeight = (rows: number): number => GROUP_HEAD + rows * CARD.h + Math.max(0, rows - 1) * GAP.y + GROUP_PAD;
const boxWidth = (cols: number): number => 2 * GROUP_PAD + cols * CARD.w + Math.max(0, cols - 1) * GAP.x;

/** Cards of one group to columns: by layer, none much longer than the others. */
function spread(ids: readonly string[], edges: readonly LayoutEdge[], grid: number): string[][] {
  const inside = new Set(ids);
  const w = weights(edges.filter((e) => inside.has(e.src) && inside.has(e.dst)).map((e) => [e.src, e.dst, e.weight] as const));
  const layer = layers(ids, w);
  const cols = gridColumns(ids.length, grid);
  const deepest = Math.max(0, ...layer.values());
  const rows = Math.ceil(ids.length / cols);
  const out: string[][] = Array.from({ length: cols }, () => []);
  const sorted = [...ids].sort((a, b) => layer.get(a)! - layer.get(b)! || (a < b ? -1 : 1));
  const free: string[] = [];
  for (const id of sorted) {
    const l = layer.get(id)!;
    if (l < 0) {
      free.push(id);
      continue;
    }
    const want = deepest < cols ? l : Math.floor((l * cols) / (deepest + 1));
    let c = want;
    for (let d = 1; out[c]!.length >= rows && d < cols; d++) c = want + d < cols ? want + d : Math.max(0, want - d);
    out[c]!.push(id);
  }
  for (const id of free) out.reduce((a, b) => (b.length < a.length ? b : a)).push(id);
  return out.filter((c) => c.length);
}

interface Draft {
  groups: ReadonlyMap<string, { cols: string[][] }>;
  /** Groups of each column from the top. */
  columns: string[][];
}

const heightOf = (d: Draft, g: string): number => boxHeight(Math.max(...d.groups.get(g)!.cols.map((c) => c.length)));

function columnHeight(d: Draft, groups: readonly string[]): number {
  return groups.reduce((h, g) => h + heightOf(d, g) + GROUP_GAP.y, -GROUP_GAP.y);
}

function columnWidth(d: Draft, groups: readonly string[]): number {
  return Math.max(...groups.map((g) => boxWidth(d.groups.get(g)!.cols.length)));
}

/** Up to so many groups every way to cut their sequence into columns is tried; above, cuts by a set height. */
const CUT_ALL = 9;
const CUT_HEIGHTS = [0.5, 0.75, 1, 1.3, 1.7, 2.3, 3.2];

/** Ways to cut the groups, which are in the order of their layers, into columns. */
function cuts(seq: readonly string[], height: (g: string) => number, view: View): string[][][] {
  const cutAt = (here: (i: number) => boolean): string[][] => {
    const out: string[][] = [];
    seq.forEach((g, i) => (i === 0 || here(i) ? out.push([g]) : out.at(-1)!.push(g)));
    return out;
  };
  if (seq.length <= CUT_ALL) return Array.from({ length: 2 ** (seq.length - 1) }, (_, mask) => cutAt((i) => (mask >> (i - 1)) % 2 === 1));
  return CUT_HEIGHTS.map((f) => {
    let h = 0;
    return cutAt((i) => {
      if (i === 1) h = height(seq[0]!);
      h += GROUP_GAP.y + height(seq[i]!);
      const over = h > view.h * f;
      if (over) h = height(seq[i]!);
      return over;
    });
  });
}

interface Candidate {
  d: Draft;
  zoom: number;
  score: number;
}

/** Shapes that the map could have, the most promising first: shown large, few calls within a column of groups. */
function candidates(nodes: readonly LayoutNode[], edges: readonly LayoutEdge[], view: View): Candidate[] {
  const members = new Map<string, string[]>();
  const groupOf = new Map<string, string>();
  for (const n of [...nodes].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    members.set(n.group, [...(members.get(n.group) ?? []), n.id]);
    groupOf.set(n.id, n.group);
  }
  const between = weights(edges.map((e) => [groupOf.get(e.src) ?? "", groupOf.get(e.dst) ?? "", e.weight] as const));
  const layer = layers([...members.keys()], between);
  const seq = [...members.keys()].sort((a, b) => layer.get(a)! - layer.get(b)! || (a < b ? -1 : 1));
  const found = new Map<string, Candidate>();
  for (const grid of GRIDS) {
    const groups = new Map([...members].map(([g, ids]) => [g, { cols: spread(ids, edges, grid) }]));
    const height = (g: string): number => heightOf({ groups, columns: [] }, g);
    for (const columns of cuts(seq, height, view)) {
      const d: Draft = { groups, columns };
      const zoom = zoomOf(d, view);
      let inside = 0;
      for (const c of columns) for (const a of c) for (const b of c) inside += between.get(a)?.get(b) ?? 0;
      const score = zoom - (SAME_COLUMN * inside) / Math.max(1, edges.length);
      const key = JSON.stringify(columns.map((c) => c.map((g) => [g, groups.get(g)!.cols.map((x) => x.length)])));
      if (!found.has(key)) found.set(key, { d, zoom, score });
    }
  }
  return [...found.values()].sort((a, b) => b.score - a.score);
}

/** Stacks the groups of each column; columns are centred on each other. */
function stack(d: Draft, rowsOf: ReadonlyMap<string, number>): Placed {
  const heights = d.columns.map((c) => columnHeight(d, c));
  const tallest = Math.max(0, ...heights);
  const groups = new Map<string, GroupPlace>();
  const cells = new Map<string, Cell>();
  d.columns.forEach((column, i) => {
    // Half a row is the grain, so that cards of neighbouring columns stand level.
    let y = Math.round((tallest - heights[i]!) / PITCH.y) * (PITCH.y / 2);
    for (const g of column) {
      const { cols } = d.groups.get(g)!;
      groups.set(g, { column: i, y, cols: cols.length });
      cols.forEach((ids, col) => ids.forEach((id, i) => cells.set(id, { group: g, col, row: rowsOf.get(id) ?? i })));
      y += heightOf(d, g) + GROUP_GAP.y;
    }
  });
  return { groups, cells };
}

interface Placed {
  groups: Map<string, GroupPlace>;
  cells: Map<string, Cell>;
}

function centreY(groups: ReadonlyMap<string, GroupPlace>, c: Cell): number {
  return groups.get(c.group)!.y + GROUP_HEAD + c.row * PITCH.y + CARD.h / 2;
}

/** Orders the groups of each column by the mean height of what they talk to. */
function orderGroups(d: Draft, edges: readonly LayoutEdge[]): void {
  for (let round = 0; round < 4; round++) {
    const place = stack(d, new Map());
    const sums = new Map<string, [number, number]>();
    const note = (from: string, to: string): void => {
      const [a, b] = [place.cells.get(from), place.cells.get(to)];
      if (!a || !b || a.group === b.group) return;
      const [s, n] = sums.get(a.group) ?? [0, 0];
      sums.set(a.group, [s + centreY(place.groups, b), n + 1]);
    };
    for (const e of edges) {
      note(e.src, e.dst);
      note(e.dst, e.src);
    }
    const mean = (g: string): number => {
      const [s, n] = sums.get(g) ?? [0, 0];
      return n ? s / n : place.groups.get(g)!.y;
    };
    for (const column of round % 2 ? [...d.columns].reverse() : d.columns) column.sort((a, b) => mean(a) - mean(b));
  }
}

/** Zoom at which a map of this size fits the view; more than 1 is of no use. */
function zoomOf(d: Draft, view: View): number {
  const width = d.columns.reduce((s, c) => s + columnWidth(d, c) + GROUP_GAP.x, -GROUP_GAP.x);
  const height = Math.max(...d.columns.map((c) => columnHeight(d, c)));
  return Math.min(1, view.w / width, view.h / height);
}

/** Lays out everything anew. Of several shapes it takes one that can be shown large and has short ways. */
export function arrange(nodes: readonly LayoutNode[], edges: readonly LayoutEdge[], view: View = { w: 1300, h: 480 }): Layout {
  if (!nodes.length) return EMPTY_LAYOUT;
  // Many cards take long to untangle, and then the shape that shows them largest is the one that matters.
  const promising = candidates(nodes, edges, view).slice(0, nodes.length > 40 ? 1 : 4);
  let best: Placed | null = null;
  let bestScore = -Infinity;
  for (const { d: shape, zoom } of promising) {
    const d = { ...shape, columns: shape.columns.map((c) => [...c]) };
    orderGroups(d, edges);
    const place = stack(d, new Map());
    const tangle = new Untangler(place, edges);
    tangle.run();
    const score = zoom - 0.05 * (tangle.cost() / Math.max(1, edges.length));
    if (score > bestScore) [best, bestScore] = [place, score];
  }
  return { ...best!, edges: new Map(edges.map((e) => [e.id, e])) };
}

/** Frees the places of cards that will not come back; the others stay where they are. */
export function forget(l: Layout, gone: ReadonlySet<string>): Layout {
  const cells = new Map([...l.cells].filter(([id]) => !gone.has(id)));
  const used = new Set([...cells.values()].map((c) => c.group));
  return {
    groups: new Map([...l.groups].filter(([g]) => used.has(g))),
    cells,
    edges: new Map([...l.edges].filter(([, e]) => !gone.has(e.src) && !gone.has(e.dst))),
  };
}

/** Rows that a group has now. */
function groupRows(cells: ReadonlyMap<string, Cell>, group: string): number {
  let rows = 0;
  for (const c of cells.values()) if (c.group === group) rows = Math.max(rows, c.row + 1);
  return rows;
}

/** Adds what is new and leaves the rest where it is; groups below one that grows make room. Returns the same object if nothing is new. */
export function extend(l: Layout, nodes: readonly LayoutNode[], edges: readonly LayoutEdge[]): Layout {
  const newNodes = nodes.filter((n) => !l.cells.has(n.id));
  const newEdges = edges.filter((e) => !l.edges.has(e.id));
  if (!newNodes.length && !newEdges.length) return l;
  const all = new Map([...l.edges, ...newEdges.map((e) => [e.id, e] as const)]);
  if (!newNodes.length) return { ...l, edges: all };
  const groups = new Map(l.groups);
  const cells = new Map(l.cells);
  for (const n of newNodes) {
    if (!groups.has(n.group)) groups.set(n.group, newGroup(n, groups, cells, all));
    cells.set(n.id, freeCell(n, groups, cells, all));
    makeRoom(groups, cells, groups.get(n.group)!.column);
  }
  return { groups, cells, edges: all };
}

/** A new group goes under the column right of its callers, or left of what it calls. */
function newGroup(n: LayoutNode, groups: ReadonlyMap<string, GroupPlace>, cells: ReadonlyMap<string, Cell>, edges: ReadonlyMap<string, LayoutEdge>): GroupPlace {
  const last = Math.max(0, ...[...groups.values()].map((g) => g.column));
  let column = last;
  for (const e of edges.values()) {
    const other = cells.get(e.src === n.id ? e.dst : e.dst === n.id ? e.src : "");
    if (!other) continue;
    const c = groups.get(other.group)!.column;
    column = Math.min(last, Math.max(0, e.src === n.id ? c - 1 : c + 1));
    break;
  }
  let y = 0;
  for (const [g, p] of groups) if (p.column === column) y = Math.max(y, p.y + boxHeight(groupRows(cells, g)) + GROUP_GAP.y);
  return { column, y, cols: 1 };
}

/** The free cell of the group nearest to the card's neighbours; a new row at the bottom if all are taken. */
function freeCell(n: LayoutNode, groups: ReadonlyMap<string, GroupPlace>, cells: ReadonlyMap<string, Cell>, edges: ReadonlyMap<string, LayoutEdge>): Cell {
  const g = groups.get(n.group)!;
  const rows = groupRows(cells, n.group);
  const taken = new Set([...cells.values()].filter((c) => c.group === n.group).map((c) => `${c.col},${c.row}`));
  const ys: number[] = [];
  for (const e of edges.values()) {
    const other = cells.get(e.src === n.id ? e.dst : e.dst === n.id ? e.src : "");
    if (other) ys.push(centreY(groups, other));
  }
  const want = ys.length ? ys.reduce((a, b) => a + b) / ys.length : Infinity;
  let best: Cell = { group: n.group, col: 0, row: rows };
  let bestCost = Infinity;
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < g.cols; col++) {
      if (taken.has(`${col},${row}`)) continue;
      const cell = { group: n.group, col, row };
      const cost = want === Infinity ? row : Math.abs(centreY(groups, cell) - want);
      if (cost < bestCost) [best, bestCost] = [cell, cost];
    }
  return best;
}

function makeRoom(groups: Map<string, GroupPlace>, cells: ReadonlyMap<string, Cell>, column: number): void {
  const inColumn = [...groups].filter(([, p]) => p.column === column).sort((a, b) => a[1].y - b[1].y);
  let floor = -Infinity;
  for (const [g, p] of inColumn) {
    const y = Math.max(p.y, floor);
    if (y !== p.y) groups.set(g, { ...p, y });
    floor = y + boxHeight(groupRows(cells, g)) + GROUP_GAP.y;
  }
}

/** Rectangles of all that is placed. */
export function geometry(l: Layout): Geometry {
  const widest: number[] = [];
  for (const g of l.groups.values()) widest[g.column] = Math.max(widest[g.column] ?? 1, g.cols);
  const xs: number[] = [];
  const firstColumn: number[] = [];
  const columns: Column[] = [];
  let x = 0;
  for (let i = 0; i < widest.length; i++) {
    xs.push(x);
    firstColumn.push(columns.length);
    for (let c = 0; c < (widest[i] ?? 1); c++) {
      const x0 = x + GROUP_PAD + c * PITCH.x;
      columns.push({ x0, x1: x0 + CARD.w });
    }
    x += boxWidth(widest[i] ?? 1) + GROUP_GAP.x;
  }
  const groups = new Map<string, Rect & { column: number }>();
  for (const [g, p] of l.groups)
    groups.set(g, { x: xs[p.column]!, y: p.y, w: boxWidth(p.cols), h: boxHeight(groupRows(l.cells, g)), column: firstColumn[p.column]! });
  const cards = new Map<string, Rect & { column: number }>();
  for (const [id, c] of l.cells) {
    const p = l.groups.get(c.group)!;
    const column = firstColumn[p.column]! + c.col;
    cards.set(id, { x: columns[column]!.x0, y: p.y + GROUP_HEAD + c.row * PITCH.y, w: CARD.w, h: CARD.h, column });
  }
  return { cards, groups, columns, bounds: union(groups.values()) };
}
