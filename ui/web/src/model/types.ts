/**
 * The contract with the server, field by field as in ui/api/types.go: times are Unix milliseconds unless said otherwise,
 * latencies milliseconds (-1 unknown), sizes bytes, rates per second. A group is a namespace, "host NAME" or "world".
 */

export interface Filter {
  namespace?: string[];
  workload?: string[];
  verdict?: string[];
  protocol?: string[];
  edge?: string[];
  reason?: string[];
  policy?: string[];
  text?: string;
}

export interface Subscribe {
  op: "subscribe" | "pause" | "resume";
  filter: Filter;
  window: number;
}

export interface Tick {
  time: number;
  reset?: boolean;
  map: Snapshot;
  flows: Flow[] | null;
  skipped?: number;
  timeline?: Bucket[] | null;
  ledger: Ledger;
}

export interface Snapshot {
  from: number;
  to: number;
  nodes: Node[] | null;
  edges: Edge[] | null;
  timeline?: Bucket[] | null;
  groups: string[] | null;
}

export interface Node {
  id: string;
  group: string;
  name: string;
  kind: string;
  rate: number;
  rateUnit: string;
  p95: number;
  errorPct: number;
  drops: number;
  bytesIn: number;
  bytesOut: number;
  pods: number;
}

export type EdgeVerdict = "forwarded" | "error" | "dropped" | "audit";

export interface Edge {
  id: string;
  src: string;
  dst: string;
  flows: number;
  requests: number;
  errors: number;
  drops: number;
  /** Connections that policy denied, and that it would have denied. */
  denied?: number;
  audited?: number;
  bytes: number;
  p50: number;
  p95: number;
  rtt: number;
  verdict: EdgeVerdict;
  dropReason?: string;
  policies?: Decision[] | null;
  protocols: string;
  lastSeen: number;
}

/** What one set of policies decided over a span. Lists have denials first, then audits, then what was allowed. */
export interface Decision {
  verdict: string;
  /** "NetworkPolicy data/default-deny". */
  names: string[];
  connections: number;
  /** Packets that were denied. */
  packets: number;
  lastSeen: number;
}

export interface Bucket {
  time: number;
  width: number;
  forwarded: number;
  errors: number;
  drops: number;
}

export interface Flow {
  id: string;
  /** Unix microseconds. */
  time: number;
  src: string;
  dst: string;
  srcName: string;
  dstName: string;
  srcAddr: string;
  dstAddr: string;
  kind: string;
  what: string;
  verdict: string;
  failed?: boolean;
  reason?: string;
  symbol?: string;
  policy?: Policy;
  protocol: string;
  /** Microseconds, -1 unknown. */
  latencyUs: number;
  bytes: number;
  packets: number;
  node: string;
  point: string;
  path?: Hop[] | null;
  traceId?: string;
}

/** What policy said of a flow's connection. */
export interface Policy {
  verdict: string;
  match: string;
  /** -1: no rule allowed. */
  rule: number;
  policies: string[] | null;
  text: string;
}

export interface Hop {
  node: string;
  point: string;
  /** Unix microseconds. */
  time: number;
}

/** A distributed trace: each span below its caller, callers before what they call. */
export interface Trace {
  id: string;
  /** Unix microseconds. */
  start: number;
  durationUs: number;
  services: number;
  spans: TraceSpan[] | null;
  truncated?: boolean;
}

/** One side's view of an exchange. */
export interface TraceSpan {
  id: string;
  /** May be a span of the program, which is not here. */
  parent?: string;
  depth: number;
  side: string;
  service: string;
  name: string;
  what: string;
  protocol: string;
  /** Since the start of the trace. */
  startUs: number;
  durationUs: number;
  failed?: boolean;
  status: string;
  node: string;
  point: string;
  flow: Flow;
}

export interface FlowPage {
  flows: Flow[] | null;
  next?: number;
}

export interface Detail {
  id: string;
  step: number;
  series: Point[] | null;
  top: TopRow[] | null;
  drops: DropRow[] | null;
  policies?: Decision[] | null;
  slow: Flow[] | null;
  recent: Flow[] | null;
}

export interface Point {
  time: number;
  requests: number;
  errors: number;
  drops: number;
  bytes: number;
  p50: number;
  p95: number;
  p99: number;
}

export interface TopRow {
  protocol: string;
  name: string;
  rate: number;
  p95: number;
  errorPct: number;
  status: string;
}

export interface DropRow {
  reason: string;
  symbol: string;
  count: number;
  hint?: string;
}

export interface Ledger {
  produced: number;
  delivered: number;
  lost?: Record<string, number> | null;
  exact: boolean;
  nodes: number;
  flowsRate: number;
}

export interface Status {
  version: string;
  storage: string;
  error?: string;
  nodes: NodeStatus[] | null;
  ledger: Ledger;
  oldest: number;
}

export interface NodeStatus {
  name: string;
  state: string;
  since: number;
  flows: number;
  lost: number;
  delivered: number;
}
