import { arrange, EMPTY_LAYOUT, extend, type Layout, type LayoutNode, type View } from "./layout.ts";
import type { Snapshot } from "./types.ts";

/** Decides when the map is laid out anew and when it only grows. */

/** Anew while a map that nobody touched yet has grown by this much: at the start workloads come in over some seconds. */
const GROWTH = 1.4;

/** What is outside and only calls stands in a box of its own, so that traffic comes in from the left and leaves to the right. */
const OUTSIDE = "world";
const CALLERS = "world\u0000callers";

/** The name that is written on a box. */
export const boxName = (box: string): string => box.split("\u0000")[0]!;

function boxes(s: Snapshot): LayoutNode[] {
  const called = new Set((s.edges ?? []).map((e) => e.dst));
  return (s.nodes ?? []).map((n) => ({ id: n.id, group: n.group === OUTSIDE && !called.has(n.id) ? CALLERS : n.group }));
}

export class Placer {
  layout: Layout = EMPTY_LAYOUT;
  private subject = "";
  private before: Snapshot | null = null;
  private arranged = 0;
  private due = true;

  /** `subject` names what is looked at (filter, range); `touched` says that a person has moved or chosen something. */
  update(subject: string, s: Snapshot, view: View, touched: boolean): Layout {
    if (subject !== this.subject) {
      this.subject = subject;
      this.due = true;
    }
    if (s === this.before && !(this.due && this.before === null)) return this.layout;
    this.before = s;
    const nodes = boxes(s);
    const edges = s.edges ?? [];
    const placed = extend(this.layout, nodes, edges);
    const grown = !touched && placed.cells.size > this.layout.cells.size && placed.cells.size >= this.arranged * GROWTH;
    if (this.due || grown) this.arrange(s, view);
    else this.layout = placed;
    return this.layout;
  }

  /** Lays out what is seen now, and forgets what isn't. */
  arrange(s: Snapshot, view: View): void {
    this.layout = arrange(boxes(s), s.edges ?? [], view);
    this.arranged = this.layout.cells.size;
    this.due = false;
  }
}
