import type { Flow, Trace, TraceSpan } from "./types.ts";

/** A part of the trace's time, both in percent. */
export interface Bar {
  left: number;
  width: number;
}

/** One exchange of a trace: how long its client waited, and how long of that its server took. */
export interface Exchange {
  flow: Flow;
  depth: number;
  /** Who answered; the node's id. */
  service: string;
  what: string;
  status: string;
  /** As everywhere on the page: a client error is an answer, not a failure. */
  failed: boolean;
  durationUs: number;
  client: Bar | null;
  server: Bar | null;
}

/** Puts the two views of each exchange into one row, below the exchange during which it was made. */
export function exchanges(t: Trace): Exchange[] {
  const rows: Exchange[] = [];
  /** Depths of the spans that are open, and how many exchanges they are part of. */
  const open: { depth: number; level: number }[] = [];
  for (const s of t.spans ?? []) {
    while (open.length && open.at(-1)!.depth >= s.depth) open.pop();
    const row = rows.at(-1);
    if (s.side === "server" && row?.client && !row.server && row.flow.id === s.flow.id) {
      row.server = bar(s, t);
      open.push({ depth: s.depth, level: row.depth });
      continue;
    }
    const depth = open.length ? open.at(-1)!.level + 1 : 0;
    const own = bar(s, t);
    rows.push({
      flow: s.flow, depth, service: s.flow.dst, what: s.what, status: s.status, failed: !!s.flow.failed, durationUs: s.durationUs,
      client: s.side === "client" ? own : null, server: s.side === "server" ? own : null,
    });
    open.push({ depth: s.depth, level: depth });
  }
  return rows;
}

/** The least width at which a bar is seen, percent. */
const MIN_WIDTH = 1;

function bar(s: TraceSpan, t: Trace): Bar {
  const part = (us: number): number => (t.durationUs > 0 ? Math.min(Math.max((us / t.durationUs) * 100, 0), 100) : us > 0 ? 100 : 0);
  const left = Math.min(part(s.startUs), 100 - MIN_WIDTH);
  return { left, width: Math.max(t.durationUs > 0 ? part(s.startUs + s.durationUs) - left : 100, MIN_WIDTH) };
}
