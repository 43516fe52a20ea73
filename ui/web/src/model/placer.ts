import { arrange, EMPTY_LAYOUT, extend, type Layout } from "./layout.ts";
import type { Snapshot } from "./types.ts";

/** Decides when the map is laid out anew and when it only grows. */

/** Anew while a map that nobody touched yet has grown by this much: at the start workloads come in over some seconds. */
const GROWTH = 1.4;

export class Placer {
  layout: Layout = EMPTY_LAYOUT;
  private subject = "";
  private before: Snapshot | null = null;
  private arranged = 0;
  private due = true;

  /** `subject` names what is looked at (filter, range); `touched` says that a person has moved or chosen something. */
  update(subject: string, s: Snapshot, aspect: number, touched: boolean): Layout {
    if (subject !== this.subject) {
      this.subject = subject;
      this.due = true;
    }
    if (s === this.before && !(this.due && this.before === null)) return this.layout;
    this.before = s;
    const nodes = s.nodes ?? [];
    const edges = s.edges ?? [];
    const placed = extend(this.layout, nodes, edges);
    const grown = !touched && placed.cells.size > this.layout.cells.size && placed.cells.size >= this.arranged * GROWTH;
    if (this.due || grown) this.arrange(s, aspect);
    else this.layout = placed;
    return this.layout;
  }

  /** Lays out what is seen now, and forgets what isn't. */
  arrange(s: Snapshot, aspect: number): void {
    this.layout = arrange(s.nodes ?? [], s.edges ?? [], aspect);
    this.arranged = this.layout.cells.size;
    this.due = false;
  }
}
