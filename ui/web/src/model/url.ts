import { fromParams, toParams } from "./filter.ts";
import type { Filter } from "./types.ts";

/** All that a link must carry to show another person the same view. */

export const PAGES = ["map", "flows", "drops", "dns", "nodes"] as const;
export type Page = (typeof PAGES)[number];

/** Live: figures over the last `window` seconds. Last: stored data up to now. Fixed: stored data between two times (Unix ms). */
export type Range =
  | { mode: "live"; window: number }
  | { mode: "last"; seconds: number }
  | { mode: "fixed"; from: number; to: number };

export type Selection = { type: "node" | "edge" | "flow"; id: string } | null;
export const WIDTHS = ["requests", "bytes", "connections"] as const;
export type WidthBy = (typeof WIDTHS)[number];

export interface ViewState {
  page: Page;
  filter: Filter;
  range: Range;
  selection: Selection;
  /** The map as a table. */
  table: boolean;
  width: WidthBy;
}

export const LIVE_MIN = 15;
export const LIVE_MAX = 900;
const DEFAULT_WINDOW = 60;

export function initialState(): ViewState {
  return { page: "map", filter: {}, range: { mode: "live", window: DEFAULT_WINDOW }, selection: null, table: false, width: "requests" };
}

/** The query of a link; empty for the first view. */
export function encode(s: ViewState): string {
  const p = new URLSearchParams();
  if (s.page !== "map") p.set("page", s.page);
  for (const [k, v] of toParams(s.filter)) p.append(k, v);
  const r = s.range;
  if (r.mode === "fixed") {
    p.set("from", String(r.from));
    p.set("to", String(r.to));
  } else if (r.mode === "last") p.set("last", String(r.seconds));
  else if (r.window !== DEFAULT_WINDOW) p.set("window", String(r.window));
  // A flow lives only in the table that is open: a link to it would lead nowhere.
  if (s.selection && s.selection.type !== "flow") p.set("sel", `${s.selection.type}:${s.selection.id}`);
  if (s.table) p.set("view", "table");
  if (s.width !== "requests") p.set("width", s.width);
  return p.toString();
}

function whole(v: string | null): number {
  return v !== null && /^\d{1,15}$/.test(v) ? Number(v) : NaN;
}

function decodeRange(p: URLSearchParams): Range {
  const from = whole(p.get("from"));
  const to = whole(p.get("to"));
  if (from < to) return { mode: "fixed", from, to };
  const last = whole(p.get("last"));
  if (last > 0) return { mode: "last", seconds: last };
  const window = whole(p.get("window"));
  return { mode: "live", window: window >= LIVE_MIN && window <= LIVE_MAX ? window : DEFAULT_WINDOW };
}

function decodeSelection(v: string | null): Selection {
  const m = v?.match(/^(node|edge):(.+)$/s);
  return m ? { type: m[1] as "node" | "edge", id: m[2]! } : null;
}

/** Reads a link's query. What it doesn't understand is left at its default: an old link still opens. */
export function decode(search: string): ViewState {
  const p = new URLSearchParams(search);
  return {
    page: PAGES.find((x) => x === p.get("page")) ?? "map",
    filter: fromParams(p),
    range: decodeRange(p),
    selection: decodeSelection(p.get("sel")),
    table: p.get("view") === "table",
    width: WIDTHS.find((w) => w === p.get("width")) ?? "requests",
  };
}
