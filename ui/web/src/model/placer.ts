import { arrange, EMPTY_LAYOUT, extend, forget, type Layout, type LayoutEdge, type LayoutNode, type View } from "./layout.ts";
import type { Snapshot } from "./types.ts";
import { edgeRate, hasTraffic } from "./verdict.ts";

/** Decides when the map is laid out anew and when it only grows. */

/** Anew while a map that nobody touched yet has grown by this much: at the start workloads come in over some seconds. */
const GROWTH = 1.4;
/** A card that was not there in so many snapshots has left. */
const FORGET = 120;

/** What is outside and mostly calls stands in a box of its own, so that traffic comes in from the left and leaves to the right. */
const OUTSIDE = "world";
const CALLERS = "world\u0000callers";

/** The name that is written on a box. */
export const boxName = (box: string): string => box.split("\u0000")[0]!;

/** An edge without traffic says little about who calls whom: a lost reply looks like a call the other way. */
const FAINT = 0.05;

function weighted(s: Snapshot): LayoutEdge[] {
  return (s.edges ?? []).map((e) => ({ id: e.id, src: e.src, dst: e.dst, weight: hasTraffic(e) ? 1 + Math.log10(1 + edgeRate(e)) : FAINT }));
}

function boxes(s: Snapshot): LayoutNode[] {
  const balance = new Map<string, number>();
  for (const e of weighted(s)) {
    balance.set(e.src, (balance.get(e.src) ?? 0) + e.weight!);
    balance.set(e.dst, (balance.get(e.dst) ?? 0) - e.weight!);
  }
  return (s.nodes ?? []).map((n) => ({ id: n.id, group: n.group === OUTSIDE && (balance.get(n.id) ?? 0) > 0 ? CALLERS : n.group }));
}

export class Placer {
  layout: Layout = EMPTY_LAYOUT;
  private subject = "";
  private before: Snapshot | null = null;
  private arranged = 0;
  private due = true;
  private updates = 0;
  private readonly seen = new Map<string, number>();

  /** `subject` names what is looked at (filter, range); `touched` says that a person has moved or chosen something. */
  update(subject: string, s: Snapshot, view: View, touched: boolean): Layout {
    if (subject !== this.subject) {
      this.subject = subject;
      this.due = true;
    }
    if (s === this.before && !(this.due && this.before === null)) return this.layout;
    this.before = s;
    const nodes = boxes(s);
    const edges = weighted(s);
    this.updates++;
    for (const n of nodes) this.seen.set(n.id, this.updates);
    const placed = extend(this.clear(nodes), nodes, edges);
    const grown = !touched && placed.cells.size > this.layout.cells.size && placed.cells.size >= this.arranged * GROWTH;
    if (this.due || grown) this.arrange(s, view);
    else this.layout = placed;
    return this.layout;
  }

  /** The layout without cards that were not seen for long, if room is needed: an absent card's place is kept as long as nobody asks for it. */
  private clear(nodes: readonly LayoutNode[]): Layout {
    if (nodes.every((n) => this.layout.cells.has(n.id))) return this.layout;
    const gone = new Set([...this.layout.cells.keys()].filter((id) => this.updates - (this.seen.get(id) ?? 0) > FORGET));
    for (const id of gone) this.seen.delete(id);
    return gone.size ? forget(this.layout, gone) : this.layout;
  }

  /** Lays out what is seen now, and forgets what isn't. */
  arrange(s: Snapshot, view: View): void {
    this.layout = arrange(boxes(s), weighted(s), view);
    this.arranged = this.layout.cells.size;
    this.due = false;
  }
}
