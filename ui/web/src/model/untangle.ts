import { CARD, GROUP_HEAD, PITCH } from "./geometry.ts";
import type { Cell, GroupPlace, LayoutEdge } from "./layout.ts";

/**
 * Finds better cells within each group: swaps two cards, or moves one to a free cell, while that shortens ways, takes crossings
 * away or lets callers stand left of what they call. Costs are in rows of the grid.
 */

const CROSSING = 0.6;
const BACKWARDS = 1.1;
/** A way past a card of the same column has to bow around it. */
const BOW = 1.4;
const PER_COLUMN = 0.35;
const PASSES = 3;
/** Pairs of edges that are looked at, at most: some 0.4 s of a slow machine, in which the page stands still. Groups share them. */
const BUDGET = 24e6;

export class Untangler {
  private readonly ids: string[];
  private readonly x: Float64Array;
  private readonly y: Float64Array;
  private readonly from: Int32Array;
  private readonly to: Int32Array;
  /** Edges at each card. */
  private readonly at: number[][];
  private readonly mark: Uint8Array;
  private readonly firstColumn: number[] = [];
  private work = 0;

  constructor(
    private readonly place: { groups: ReadonlyMap<string, GroupPlace>; cells: Map<string, Cell> },
    edges: readonly LayoutEdge[],
  ) {
    this.ids = [...place.cells.keys()];
    const index = new Map(this.ids.map((id, i) => [id, i]));
    const widest: number[] = [];
    for (const g of place.groups.values()) widest[g.column] = Math.max(widest[g.column] ?? 1, g.cols);
    let first = 0;
    for (let i = 0; i < widest.length; i++) {
      this.firstColumn.push(first);
      first += widest[i] ?? 1;
    }
    this.x = new Float64Array(this.ids.length);
    this.y = new Float64Array(this.ids.length);
    this.ids.forEach((id, i) => this.set(i, place.cells.get(id)!));
    const known = edges.filter((e) => e.src !== e.dst && index.has(e.src) && index.has(e.dst));
    this.from = Int32Array.from(known, (e) => index.get(e.src)!);
    this.to = Int32Array.from(known, (e) => index.get(e.dst)!);
    this.mark = new Uint8Array(known.length);
    this.at = this.ids.map(() => []);
    known.forEach((_, e) => {
      this.at[this.from[e]!]!.push(e);
      this.at[this.to[e]!]!.push(e);
    });
  }

  private set(i: number, c: Cell): void {
    const g = this.place.groups.get(c.group)!;
    this.x[i] = this.firstColumn[g.column]! + c.col;
    this.y[i] = (g.y + GROUP_HEAD + CARD.h / 2) / PITCH.y + c.row;
  }

  private length(e: number): number {
    const a = this.from[e]!;
    const b = this.to[e]!;
    const dx = this.x[b]! - this.x[a]!;
    const dy = Math.abs(this.y[b]! - this.y[a]!);
    if (dx === 0) return dy > 1.01 ? dy + BOW : 0.4;
    return dy + (Math.abs(dx) - 1) * PER_COLUMN + (dx < 0 ? BACKWARDS : 0);
  }

  /** How many edges outside of `mark` cross e, as straight lines. The inner loop of all: no objects, no closures. */
  private crossings(e: number): number {
    const { x, y, from, to, mark } = this;
    const a = from[e]!;
    const b = to[e]!;
    const ax = x[a]!;
    const ay = y[a]!;
    const dx = x[b]! - ax;
    const dy = y[b]! - ay;
    let n = 0;
    this.work += from.length;
    for (let f = 0; f < from.length; f++) {
      if (mark[f]) continue;
      const c = from[f]!;
      const d = to[f]!;
      if (a === c || a === d || b === c || b === d) continue;
      const cx = x[c]!;
      const cy = y[c]!;
      const ex = x[d]!;
      const ey = y[d]!;
      if ((dx * (cy - ay) - dy * (cx - ax)) * (dx * (ey - ay) - dy * (ex - ax)) >= 0) continue;
      const fx = ex - cx;
      const fy = ey - cy;
      if ((fx * (ay - cy) - fy * (ax - cx)) * (fx * (ay + dy - cy) - fy * (ax + dx - cx)) < 0) n++;
    }
    return n;
  }

  /** Cost of the edges in `list`, crossings with all others counted once. */
  private costOf(list: readonly number[]): number {
    let sum = 0;
    for (const e of list) {
      sum += this.length(e);
      this.mark[e] = 1;
      sum += CROSSING * this.crossings(e);
    }
    for (const e of list) this.mark[e] = 0;
    return sum;
  }

  cost(): number {
    return this.costOf(Array.from(this.from, (_, e) => e));
  }

  run(): void {
    const byGroup = new Map<string, number[]>();
    this.ids.forEach((id, i) => {
      const g = this.place.cells.get(id)!.group;
      byGroup.set(g, [...(byGroup.get(g) ?? []), i]);
    });
    for (let pass = 0; pass < PASSES; pass++) {
      let better = false;
      const share = (BUDGET - this.work) / byGroup.size;
      for (const [g, members] of byGroup) better = this.improve(g, members, this.work + share) || better;
      if (!better || this.work >= BUDGET) return;
    }
  }

  /** Stops when `until` pairs have been looked at. */
  private improve(group: string, members: readonly number[], until: number): boolean {
    const cols = this.place.groups.get(group)!.cols;
    const cellOf = (i: number): Cell => this.place.cells.get(this.ids[i]!)!;
    const rows = Math.max(...members.map((i) => cellOf(i).row)) + 1;
    const holder = new Map(members.map((i) => [cellOf(i).row * cols + cellOf(i).col, i]));
    let better = false;
    for (const i of members)
      for (let slot = 0; slot < rows * cols; slot++) {
        const mine = cellOf(i);
        const was = mine.row * cols + mine.col;
        if (slot === was) continue;
        if (this.work >= until) return better;
        const j = holder.get(slot);
        const target: Cell = { group, col: slot % cols, row: Math.floor(slot / cols) };
        const touched = j === undefined ? this.at[i]! : this.at[i]!.concat(this.at[j]!.filter((e) => !this.at[i]!.includes(e)));
        const before = this.costOf(touched);
        this.set(i, target);
        if (j !== undefined) this.set(j, mine);
        if (this.costOf(touched) >= before - 1e-6) {
          this.set(i, mine);
          if (j !== undefined) this.set(j, target);
          continue;
        }
        better = true;
        this.place.cells.set(this.ids[i]!, target);
        if (j === undefined) holder.delete(was);
        else {
          this.place.cells.set(this.ids[j]!, mine);
          holder.set(was, j);
        }
        holder.set(slot, i);
      }
    return better;
  }
}
