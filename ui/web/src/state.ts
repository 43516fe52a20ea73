import { batch, computed, effect, signal, untracked } from "@preact/signals";
import { ApiError, getDetail, getFlows, getMap, getStatus, getTrace, Stream, type Connection, type Span } from "./api.ts";
import { add, merge, type Known, type Token } from "./model/filter.ts";
import { applyTick, EMPTY_LIVE, TIMELINE_SPAN, type LiveState } from "./model/live.ts";
import { pathOf } from "./model/policy.ts";
import type { Bucket, Detail, Filter, Flow, Snapshot, Status, Trace } from "./model/types.ts";
import { decode, encode, type Page, type Range, type Selection, type ViewState } from "./model/url.ts";

/** The page's state: what the link says, what the server sent, and how one follows the other. */

export const view = signal<ViewState>(decode(location.search));

/** Changes the view and the link. `replace` leaves no step in the browser's history. */
export function go(patch: Partial<ViewState>, replace = false): void {
  const next = { ...view.value, ...patch };
  const q = encode(next);
  if (q !== location.search.replace(/^\?/, "")) history[replace ? "replaceState" : "pushState"](null, "", q ? "?" + q : location.pathname);
  view.value = next;
}

addEventListener("popstate", () => (view.value = decode(location.search)));

export const select = (s: Selection): void => go({ selection: s });
export const setFilter = (filter: Filter): void => go({ filter });
export const addTokens = (tokens: Token[]): void => go({ filter: add(view.value.filter, tokens) });
/** The flows behind a figure. */
export const flowsBehind = (more: Filter): void => go({ page: "flows", filter: merge(view.value.filter, more) });

/** What a page always looks at, over the person's own filter. */
const PAGE_FILTER: Record<Page, Filter> = { map: {}, flows: {}, drops: { verdict: ["dropped"] }, dns: { protocol: ["dns"] }, nodes: {} };
/** Compared as text, so that a change of selection or width asks the server nothing. */
const filterKey = computed(() => JSON.stringify(merge(view.value.filter, PAGE_FILTER[view.value.page])));
export const filter = computed(() => JSON.parse(filterKey.value) as Filter);
const rangeKey = computed(() => JSON.stringify(view.value.range));
const range = computed(() => JSON.parse(rangeKey.value) as Range);

export const live = signal<LiveState>(EMPTY_LIVE);
export const connection = signal<Connection>({ state: "idle" });
export const paused = signal(false);

export const stream = new Stream(
  (ticks) => {
    live.value = ticks.reduce(applyTick, live.value);
  },
  (c) => {
    // Each tick says "open": only a change is told on.
    if (JSON.stringify(c) !== JSON.stringify(connection.value)) connection.value = c;
  },
);

export function setPaused(p: boolean): void {
  paused.value = p;
  stream.pause(p);
}

export interface Stored {
  loading: boolean;
  error: string;
  snapshot: Snapshot | null;
  flows: readonly Flow[];
  /** Where the next page begins, 0 at the end. */
  next: number;
  span: Span;
}

const NOTHING: Stored = { loading: true, error: "", snapshot: null, flows: [], next: 0, span: { from: 0, to: 0 } };
export const stored = signal<Stored>(NOTHING);

/** What the timeline shows around a fixed range. */
export const context = signal<(Span & { buckets: readonly Bucket[]; filter: string }) | null>(null);

export const isLive = computed(() => range.value.mode === "live");
export const snapshot = computed(() => (isLive.value ? live.value.snapshot : stored.value.snapshot));
export const rows = computed(() => (isLive.value ? live.value.flows : stored.value.flows));
export const loading = computed(() => (isLive.value ? live.value.time === 0 : stored.value.loading && !stored.value.snapshot));
export const failure = computed(() => (isLive.value ? (connection.value.state === "refused" ? connection.value.error : "") : stored.value.error));
/** The span that the figures are taken over. */
export const span = computed<Span>(() => {
  const r = range.value;
  if (r.mode === "live") return { from: live.value.time - r.window * 1000, to: live.value.time };
  return r.mode === "fixed" ? r : stored.value.span;
});
/** The span and bars of the timeline. */
export const timeline = computed<Span & { buckets: readonly Bucket[] }>(() => {
  if (isLive.value) return { from: live.value.time - TIMELINE_SPAN, to: live.value.time, buckets: live.value.timeline };
  if (range.value.mode === "fixed" && context.value) return context.value;
  return { ...stored.value.span, buckets: stored.value.snapshot?.timeline ?? [] };
});

/** Changes when what is looked at changes, not when its data do: the map is laid out anew then. */
export const subject = computed(() => filterKey.value + (isLive.value ? "live" : rangeKey.value));

export function goLive(): void {
  go({ range: { mode: "live", window: 60 } });
}

export function goRange(from: number, to: number): void {
  const t = timeline.peek();
  if (!context.value || range.value.mode !== "fixed" || from < context.value.from || to > context.value.to)
    context.value = t.from <= from && t.to >= to && t.buckets.length ? { from: t.from, to: t.to, buckets: t.buckets, filter: filterKey.value } : null;
  go({ range: { mode: "fixed", from, to } });
}

const words = (e: unknown): string => (e instanceof ApiError ? e.message : "Something went wrong in the page: " + String(e));

/** How often stored data that end now are read again, ms. */
const REFRESH = 15_000;
const reload = signal(0);
export const retry = (): void => {
  if (isLive.value) stream.subscribe(filter.value, view.value.range.mode === "live" ? view.value.range.window : 60);
  else reload.value++;
};

/** The page about Parallax itself needs no flows. */
const onNodes = computed(() => view.value.page === "nodes");

function follow(): () => void {
  const r = range.value;
  const f = filter.value;
  if (onNodes.value) return untracked(() => (stream.close(), () => undefined));
  if (r.mode === "live") {
    live.value = untracked(() => ({ ...EMPTY_LIVE, snapshot: live.value.snapshot, timeline: live.value.timeline, ledger: live.value.ledger, time: live.value.time }));
    untracked(() => stream.subscribe(f, r.window));
    return () => undefined;
  }
  void reload.value;
  untracked(() => stream.close());
  const abort = new AbortController();
  const read = async (): Promise<void> => {
    const now = Date.now();
    const s = r.mode === "fixed" ? r : { from: now - r.seconds * 1000, to: now };
    stored.value = { ...stored.value, loading: true };
    try {
      const [snap, page] = await Promise.all([getMap(f, s, abort.signal), getFlows(f, s, 0, abort.signal)]);
      stored.value = { loading: false, error: "", snapshot: snap, flows: page.flows ?? [], next: page.next ?? 0, span: s };
    } catch (e) {
      if (!abort.signal.aborted) stored.value = { ...stored.value, loading: false, error: words(e), span: s };
    }
  };
  untracked(() => {
    stored.value = { ...NOTHING, span: stored.value.span };
    void read();
  });
  const timer = r.mode === "last" ? setInterval(() => !document.hidden && void read(), REFRESH) : 0;
  return () => {
    abort.abort();
    clearInterval(timer);
  };
}

/** Reads the bars around a fixed range that was opened by a link: three times its length. */
function surround(): (() => void) | undefined {
  const r = range.value;
  if (r.mode !== "fixed") {
    untracked(() => (context.value = null));
    return undefined;
  }
  const c = context.value;
  const key = filterKey.value;
  if (c && c.from <= r.from && c.to >= r.to && c.filter === key) return undefined;
  const abort = new AbortController();
  const length = r.to - r.from;
  const wide = { from: r.from - length, to: Math.max(r.to, Math.min(r.to + length, Date.now())) };
  getMap(filter.value, wide, abort.signal).then(
    (s) => (context.value = { ...wide, buckets: s.timeline ?? [], filter: key }),
    () => undefined, // The same failure is shown by the read of the range itself.
  );
  return () => abort.abort();
}

/** Shows more time around a fixed range. */
export function widen(): void {
  const r = range.value;
  if (r.mode !== "fixed") return;
  const length = r.to - r.from;
  const to = Math.min(r.to + length / 2, Date.now());
  context.value = null;
  go({ range: { mode: "fixed", from: Math.round(to - 2 * length), to: Math.round(to) } });
}

let readingMore = false;

/** Adds the next page of stored flows. */
export async function loadMore(): Promise<void> {
  const s = stored.value;
  if (readingMore || isLive.value || !s.next || s.loading) return;
  readingMore = true;
  try {
    const page = await getFlows(filter.value, s.span, s.next);
    if (stored.value.span === s.span) stored.value = { ...stored.value, flows: [...stored.value.flows, ...(page.flows ?? [])], next: page.next ?? 0 };
  } catch (e) {
    stored.value = { ...stored.value, error: words(e) };
  } finally {
    readingMore = false;
  }
}

export interface Explained {
  id: string;
  detail: Detail | null;
  error: string;
}

export const detail = signal<Explained | null>(null);
const selectionKey = computed(() => JSON.stringify(view.value.selection));
/** Series of the drawer reach back this far in the live view, ms. */
const DETAIL_SPAN = 900_000;
const DETAIL_REFRESH = 5000;

function explain(): (() => void) | undefined {
  const s = JSON.parse(selectionKey.value) as Selection;
  if (!s || s.type === "flow") {
    untracked(() => (detail.value = null));
    return undefined;
  }
  const { type, id } = s;
  const r = range.value;
  const f = filter.value;
  const abort = new AbortController();
  untracked(() => (detail.value = { id, detail: detail.value?.id === id ? detail.value.detail : null, error: "" }));
  const read = async (): Promise<void> => {
    const now = Date.now();
    const over = r.mode === "fixed" ? r : { from: now - (r.mode === "live" ? DETAIL_SPAN : r.seconds * 1000), to: now };
    try {
      const d = await getDetail(type, id, f, over, abort.signal);
      detail.value = { id, detail: d, error: "" };
    } catch (e) {
      if (!abort.signal.aborted) detail.value = { id, detail: detail.value?.detail ?? null, error: words(e) };
    }
  };
  void read();
  const timer = r.mode === "fixed" ? 0 : setInterval(() => !document.hidden && void read(), DETAIL_REFRESH);
  return () => {
    abort.abort();
    clearInterval(timer);
  };
}

/** The flow that the drawer shows: held here, for it may leave the table. */
export const openFlow = signal<Flow | null>(null);

export function showFlow(f: Flow): void {
  batch(() => {
    openFlow.value = f;
    go({ selection: { type: "flow", id: f.id } });
  });
}

/** The trace of the open flow. */
export const trace = signal<{ id: string; trace: Trace | null; error: string } | null>(null);
/** How far around a flow the rest of its trace is looked for, ms. */
const TRACE_REACH = 3_600_000;
/** A flow's trace is whole, and in the store, when the flow is this old, ms. */
const TRACE_SETTLED = 3000;

function readTrace(): (() => void) | undefined {
  const f = view.value.selection?.type === "flow" ? openFlow.value : null;
  const id = f?.traceId;
  if (!f || !id) return untracked(() => void (trace.value = null));
  if (untracked(() => trace.value?.id === id && trace.value.trace)) return undefined;
  const at = f.time / 1000;
  const abort = new AbortController();
  untracked(() => (trace.value = { id, trace: null, error: "" }));
  const read = async (): Promise<void> => {
    try {
      trace.value = { id, trace: await getTrace(id, { from: at - TRACE_REACH, to: at + TRACE_REACH }, abort.signal), error: "" };
    } catch (e) {
      if (!abort.signal.aborted) trace.value = { id, trace: null, error: words(e) };
    }
  };
  const timer = setTimeout(() => void read(), Math.min(Math.max(at + TRACE_SETTLED - Date.now(), 0), TRACE_SETTLED));
  return () => {
    abort.abort();
    clearTimeout(timer);
  };
}

export const status = signal<{ status: Status | null; error: string }>({ status: null, error: "" });

async function readStatus(): Promise<void> {
  try {
    status.value = { status: await getStatus(), error: "" };
  } catch (e) {
    status.value = { ...status.value, error: words(e) };
  }
}

/** Groups, workloads and policies that were seen, for completion; they stay known when a filter hides them. */
export const known = signal<Known>({ groups: [], workloads: [], policies: [] });

function learn(): void {
  const s = snapshot.value;
  if (!s) return;
  const k = known.peek();
  const groups = new Set([...k.groups, ...(s.groups ?? [])]);
  const workloads = new Set([...k.workloads, ...(s.nodes ?? []).map((n) => n.id)]);
  const policies = new Set([...k.policies, ...(s.edges ?? []).flatMap((e) => (e.policies ?? []).flatMap((d) => d.names.map(pathOf)))]);
  if (groups.size !== k.groups.length || workloads.size !== k.workloads.length || policies.size !== k.policies.length)
    known.value = { groups: [...groups].sort(), workloads: [...workloads].sort(), policies: [...policies].sort() };
}

export type Theme = "auto" | "dark" | "light";
const savedTheme = document.documentElement.dataset["theme"];
export const theme = signal<Theme>(savedTheme === "dark" || savedTheme === "light" ? savedTheme : "auto");

export function setTheme(t: Theme): void {
  theme.value = t;
  if (t === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = t;
  save("theme", t === "auto" ? null : t);
}

/** Keeps a choice of this browser. Storage may be refused: the choice then lasts as long as the page. */
export function save(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem("parallax." + key);
    else localStorage.setItem("parallax." + key, value);
  } catch {
    // Nothing to do: see above.
  }
}

export function saved(key: string): string | null {
  try {
    return localStorage.getItem("parallax." + key);
  } catch {
    return null;
  }
}

const STATUS_REFRESH = 5000;

export function start(): void {
  effect(follow);
  effect(surround);
  effect(explain);
  effect(readTrace);
  effect(learn);
  void readStatus();
  setInterval(() => !document.hidden && void readStatus(), STATUS_REFRESH);
}
