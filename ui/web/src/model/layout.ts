import { CARD, GAP, GROUP_GAP, GROUP_HEAD, GROUP_PAD, PITCH, union, type Rect } from "./geometry.ts";
import { layers, weights } from "./layers.ts";

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
}

interface Cell {
  group: string;
  col: number;
  row: number;
}

interface GroupPlace {
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

/** Cards in a group with `n` of them go in this many columns, for a map of the given width / height. */
function gridColumns(n: number, aspect: number): number {
  return Math.max(1, Math.round(Math.sqrt(n * Math.min(Math.max(aspect, 0.8), 2.6) * 0.4)));
}

const boxHeight = (rows: number): number => GROUP_HEAD + rows * CARD.h + Math.max(0, rows - 1) * GAP.y + GROUP_PAD;
const boxWidth = (cols: number): number => 2 * GROUP_PAD + cols * CARD.w + Math.max(0, cols - 1) * GAP.x;

/** Cards of one group to columns: by layer, none much longer than the others. */
function spread(ids: readonly string[], edges: readonly LayoutEdge[], aspect: number): string[][] {
  const inside = new Set(ids);
  const w = weights(edges.filter((e) => inside.has(e.src) && inside.has(e.dst)).map((e) => [e.src, e.dst] as const));
  const layer = layers(ids, w);
  const cols = gridColumns(ids.length, aspect);
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
  groups: Map<string, { column: number; cols: string[][] }>;
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

/** Evens out columns until the map is about as wide for its height as the view is. */
function balance(d: Draft, aspect: number): void {
  for (let round = 0; round < 12; round++) {
    const heights = d.columns.map((c) => columnHeight(d, c));
    const tallest = heights.indexOf(Math.max(...heights));
    const width = d.columns.reduce((s, c) => s + columnWidth(d, c) + GROUP_GAP.x, -GROUP_GAP.x);
    const height = heights[tallest]!;
    const column = d.columns[tallest]!;
    if (width / height < aspect && column.length > 1) {
      // The smallest group moves to a neighbour that has room, else to a new column of its own.
      const g = [...column].sort((a, b) => heightOf(d, a) - heightOf(d, b))[0]!;
      const room = [tallest - 1, tallest + 1].filter((i) => d.columns[i] && heights[i]! + GROUP_GAP.y + heightOf(d, g) < height);
      const rest = column.filter((x) => x !== g);
      d.columns[tallest] = rest;
      if (room.length) d.columns[room[0]!]!.push(g);
      else d.columns.splice(tallest + 1, 0, [g]);
      continue;
    }
    if (width / height > aspect * 1.25 && d.columns.length > 2) {
      // Two thin neighbours share a column where that makes the map less flat, not taller than it is wide.
      const joint = (i: number): number => columnHeight(d, [...d.columns[i]!, ...d.columns[i + 1]!]);
      let best = 0;
      for (let i = 1; i < d.columns.length - 1; i++) if (joint(i) < joint(best)) best = i;
      if (width / joint(best) < aspect * 0.75) return;
      d.columns.splice(best, 2, [...d.columns[best]!, ...d.columns[best + 1]!]);
      continue;
    }
    return;
  }
}

function draft(nodes: readonly LayoutNode[], edges: readonly LayoutEdge[], aspect: number): Draft {
  const members = new Map<string, string[]>();
  const groupOf = new Map<string, string>();
  for (const n of [...nodes].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    members.set(n.group, [...(members.get(n.group) ?? []), n.id]);
    groupOf.set(n.id, n.group);
  }
  const d: Draft = { groups: new Map(), columns: [] };
  for (const [g, ids] of members) d.groups.set(g, { column: 0, cols: spread(ids, edges, aspect) });
  const between = edges.map((e) => [groupOf.get(e.src) ?? "", groupOf.get(e.dst) ?? ""] as const);
  const layer = layers([...members.keys()], weights(between));
  for (const g of members.keys()) {
    const l = Math.max(0, layer.get(g)!);
    (d.columns[l] ??= []).push(g);
  }
  d.columns = [...d.columns].filter((c) => c?.length);
  balance(d, aspect);
  return d;
}

/** Rows (increasing) for cards in their order, least far from where each wants to be. */
function assignRows(want: readonly number[], rows: number): number[] {
  const n = want.length;
  const cost: number[][] = Array.from({ length: n + 1 }, () => new Array<number>(rows + 1).fill(Infinity));
  cost[0]!.fill(0);
  for (let i = 1; i <= n; i++)
    for (let r = i; r <= rows; r++) cost[i]![r] = Math.min(cost[i]![r - 1]!, cost[i - 1]![r - 1]! + Math.abs(want[i - 1]! - (r - 1)));
  const out: number[] = [];
  for (let i = n, r = rows; i > 0; r--)
    if (cost[i]![r]! < cost[i]![r - 1]!) {
      out.unshift(r - 1);
      i--;
    }
  return out;
}

/** Stacks the groups of each column, columns centred on each other. */
function stack(d: Draft, rowsOf: ReadonlyMap<string, number>): { groups: Map<string, GroupPlace>; cells: Map<string, Cell> } {
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
      cols.forEach((ids, col) => ids.forEach((id) => cells.set(id, { group: g, col, row: rowsOf.get(id)! })));
      y += heightOf(d, g) + GROUP_GAP.y;
    }
  });
  return { groups, cells };
}

function centreY(groups: ReadonlyMap<string, GroupPlace>, c: Cell): number {
  return groups.get(c.group)!.y + GROUP_HEAD + c.row * PITCH.y + CARD.h / 2;
}

/** How bad the rows are: long vertical ways, and neighbours above each other with a card between. */
function rowCost(edges: readonly LayoutEdge[], groups: ReadonlyMap<string, GroupPlace>, cells: ReadonlyMap<string, Cell>): number {
  let cost = 0;
  for (const e of edges) {
    const a = cells.get(e.src);
    const b = cells.get(e.dst);
    if (!a || !b) continue;
    cost += Math.abs(centreY(groups, a) - centreY(groups, b));
    if (a.group === b.group && a.col === b.col && Math.abs(a.row - b.row) > 1) cost += PITCH.y;
  }
  return cost;
}

/** Lays out everything anew for a view of the given width / height. */
export function arrange(nodes: readonly LayoutNode[], edges: readonly LayoutEdge[], aspect = 2): Layout {
  if (!nodes.length) return EMPTY_LAYOUT;
  const d = draft(nodes, edges, aspect);
  const near = new Map<string, string[]>();
  for (const e of edges) {
    if (e.src === e.dst) continue;
    near.set(e.src, [...(near.get(e.src) ?? []), e.dst]);
    near.set(e.dst, [...(near.get(e.dst) ?? []), e.src]);
  }
  const rows = new Map<string, number>();
  for (const { cols } of d.groups.values()) for (const c of cols) c.forEach((id, i) => rows.set(id, i));
  let place = stack(d, rows);
  let best = place;
  let bestCost = rowCost(edges, place.groups, place.cells);
  for (let round = 0; round < 8; round++) {
    sweep(d, near, place, rows, round % 2 === 1);
    place = stack(d, rows);
    const cost = rowCost(edges, place.groups, place.cells);
    if (cost < bestCost) [best, bestCost] = [place, cost];
  }
  return { ...best, edges: new Map(edges.map((e) => [e.id, e])) };
}

/** One pass that moves each card, and each group of a column, towards the mean height of its neighbours. */
function sweep(d: Draft, near: ReadonlyMap<string, string[]>, place: ReturnType<typeof stack>, rows: Map<string, number>, backwards: boolean): void {
  const wish = (id: string): number => {
    const ys = (near.get(id) ?? []).map((o) => place.cells.get(o)).filter((c) => c !== undefined);
    return ys.length ? ys.reduce((s, c) => s + centreY(place.groups, c), 0) / ys.length : centreY(place.groups, place.cells.get(id)!);
  };
  const columns = backwards ? [...d.columns].reverse() : d.columns;
  for (const column of columns) {
    const mean = (g: string): number => {
      const ids = d.groups.get(g)!.cols.flat();
      return ids.reduce((s, id) => s + wish(id), 0) / ids.length;
    };
    const means = new Map(column.map((g) => [g, mean(g)]));
    column.sort((a, b) => means.get(a)! - means.get(b)!);
    for (const g of column) {
      const { cols } = d.groups.get(g)!;
      const height = Math.max(...cols.map((c) => c.length));
      for (const ids of cols) {
        const wishes = new Map(ids.map((id) => [id, wish(id)]));
        ids.sort((a, b) => wishes.get(a)! - wishes.get(b)! || (a < b ? -1 : 1));
        const top = place.groups.get(g)!.y + GROUP_HEAD + CARD.h / 2;
        const at = assignRows(ids.map((id) => (wishes.get(id)! - top) / PITCH.y), height);
        ids.forEach((id, i) => {
          rows.set(id, at[i]!);
          place.cells.set(id, { ...place.cells.get(id)!, row: at[i]! });
        });
      }
    }
  }
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
