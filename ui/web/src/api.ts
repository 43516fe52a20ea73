import { toParams } from "./model/filter.ts";
import { backoff } from "./model/live.ts";
import type { Detail, Filter, FlowPage, Snapshot, Status, Subscribe, Tick, Trace } from "./model/types.ts";

/** A refusal of the server, in its words, or a failure to reach it. */
export class ApiError extends Error {}

async function get<T>(path: string, params: URLSearchParams, signal?: AbortSignal): Promise<T> {
  let res: Response;
  try {
    res = await fetch(`/api/v1/${path}?${params}`, { ...(signal ? { signal } : {}), headers: { accept: "application/json" } });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new ApiError("The server can't be reached.");
  }
  const body: unknown = await res.json().catch(() => null);
  if (!res.ok) {
    const said = body && typeof body === "object" && "error" in body ? String(body.error) : `the server answered ${res.status}`;
    throw new ApiError(said);
  }
  if (body === null) throw new ApiError("The server's answer can't be read.");
  return body as T;
}

export interface Span {
  from: number;
  to: number;
}

function params(f: Filter, span: Span, more: Record<string, string | number> = {}): URLSearchParams {
  const p = toParams(f);
  p.set("from", String(Math.round(span.from)));
  p.set("to", String(Math.round(span.to)));
  for (const [k, v] of Object.entries(more)) p.set(k, String(v));
  return p;
}

export const PAGE_SIZE = 200;

export const getMap = (f: Filter, span: Span, signal?: AbortSignal): Promise<Snapshot> => get("map", params(f, span), signal);
export const getFlows = (f: Filter, span: Span, before: number, signal?: AbortSignal): Promise<FlowPage> =>
  get("flows", params(f, span, { limit: PAGE_SIZE, ...(before ? { before } : {}) }), signal);
export const getDetail = (kind: "node" | "edge", id: string, f: Filter, span: Span, signal?: AbortSignal): Promise<Detail> =>
  get(kind, params(f, span, { id }), signal);
export const getTrace = (id: string, span: Span, signal?: AbortSignal): Promise<Trace> => get("trace", params({}, span, { id }), signal);
export const getStatus = (signal?: AbortSignal): Promise<Status> => get("status", new URLSearchParams(), signal);

/** What the stream is doing. `refused` is the server's word on a request that it can't answer. */
export type Connection = { state: "idle" | "connecting" | "open" } | { state: "refused"; error: string } | { state: "lost"; retryAt: number };

/** Ticks that may wait for a frame; a page in the background gets no frames. */
const MAX_WAITING = 30;

/** The live stream: connects again by itself, and hands over ticks once per frame. */
export class Stream {
  private ws: WebSocket | null = null;
  private request: Subscribe | null = null;
  private paused = false;
  private attempt = 0;
  private timer = 0;
  private frame = 0;
  private waiting: Tick[] = [];
  /** Until the answer to the last request comes, ticks belong to the one before. */
  private stale = false;

  constructor(
    private readonly onTicks: (ticks: Tick[]) => void,
    private readonly onState: (c: Connection) => void,
  ) {}

  /** Opens the stream if it is closed and asks for what matches. Ticks of an earlier request are dropped. */
  subscribe(filter: Filter, window: number): void {
    this.request = { op: "subscribe", filter, window };
    this.waiting = [];
    if (this.ws?.readyState === WebSocket.OPEN) this.ask(this.ws);
    else if (!this.ws) this.open();
  }

  pause(paused: boolean): void {
    this.paused = paused;
    if (this.ws?.readyState === WebSocket.OPEN && this.request) this.ws.send(JSON.stringify({ ...this.request, op: paused ? "pause" : "resume" }));
  }

  close(): void {
    this.request = null;
    clearTimeout(this.timer);
    this.ws?.close();
    this.ws = null;
    this.waiting = [];
    this.onState({ state: "idle" });
  }

  /** Tries at once instead of after the pause. */
  retry(): void {
    if (this.ws || !this.request) return;
    clearTimeout(this.timer);
    this.open();
  }

  private open(): void {
    if (this.attempt === 0) this.onState({ state: "connecting" });
    const ws = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/ws`);
    this.ws = ws;
    ws.onopen = () => this.ask(ws);
    ws.onmessage = (m) => {
      if (ws !== this.ws) return;
      const said = JSON.parse(String(m.data)) as Tick | { error: string };
      if ("error" in said) return this.onState({ state: "refused", error: said.error });
      const tick = said;
      if (this.stale && !tick.reset) return;
      this.stale = false;
      this.attempt = 0;
      this.onState({ state: "open" });
      this.waiting.push(tick);
      if (this.waiting.length > MAX_WAITING) this.flush();
      else this.frame ||= requestAnimationFrame(() => this.flush());
    };
    ws.onclose = () => {
      if (ws !== this.ws) return;
      this.ws = null;
      const wait = backoff(this.attempt++);
      this.onState({ state: "lost", retryAt: Date.now() + wait });
      this.timer = window.setTimeout(() => this.open(), wait);
    };
  }

  private ask(ws: WebSocket): void {
    if (!this.request) return;
    this.stale = true;
    ws.send(JSON.stringify(this.request));
    if (this.paused) ws.send(JSON.stringify({ ...this.request, op: "pause" }));
  }

  private flush(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const ticks = this.waiting;
    this.waiting = [];
    if (ticks.length) this.onTicks(ticks);
  }
}
