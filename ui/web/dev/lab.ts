import type { Bucket, Detail, Edge, Filter, Flow, Hop, Node, Snapshot } from "../src/model/types.ts";

/**
 * Invented traffic of a small shop, for work on the page without root and without a collector. What happens in a second depends
 * only on the second and a seed, so history and live agree and every reload shows the same.
 */

interface Call {
  src: string;
  dst: string;
  rate: number;
  ms: number;
  port: number;
  l7: "http" | "dns" | "";
  ops: string[];
  errors: number;
  drop?: { reason: string; symbol: string; hint: string; policies?: string[] };
}

export interface World {
  kinds: Map<string, string>;
  calls: Call[];
}

function random(seed: number): () => number {
  let s = seed | 0;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const call = (src: string, dst: string, rate: number, ms: number, rest: Partial<Call> = {}): Call => ({
  src, dst, rate, ms, port: 8080, l7: "http", ops: ["GET /"], errors: 0, ...rest,
});

export function shop(): World {
  const kinds = new Map(Object.entries({
    "edge/ingress": "Deployment", "edge/web-bff": "Deployment",
    "shop/frontend": "Deployment", "shop/cart": "Deployment", "shop/checkout": "Deployment", "shop/payments": "Deployment",
    "shop/shipping": "Deployment", "shop/recommend": "Deployment",
    "data/redis": "StatefulSet", "data/postgres": "StatefulSet",
    "platform/dns": "Deployment", "platform/vault": "StatefulSet", "platform/report": "CronJob",
    "world/api.stripe.example": "World", "world/198.51.100.7": "World",
  }));
  const dns = (src: string, rate: number): Call =>
    call(src, "platform/dns", rate, 0.7, { l7: "dns", port: 53, errors: 0.02, ops: ["A redis.data.svc", "A postgres.data.svc", "AAAA checkout.shop.svc", "A missing.shop.svc"] });
  const calls = [
    call("world/198.51.100.7", "edge/ingress", 48, 41, { ops: ["GET /", "GET /cart/{id}", "POST /checkout"], errors: 0.004 }),
    call("edge/ingress", "shop/frontend", 46, 38, { ops: ["GET /", "GET /cart/{id}", "POST /checkout"], errors: 0.002 }),
    call("edge/web-bff", "shop/frontend", 21, 31, { ops: ["GET /api/items"], errors: 0.001 }),
    call("shop/frontend", "shop/cart", 164, 9, { ops: ["GET /cart/{id}", "PUT /cart/{id}"] }),
    call("shop/frontend", "shop/checkout", 41, 96, { ops: ["POST /checkout", "GET /checkout/{id}"], errors: 0.038 }),
    call("shop/frontend", "shop/recommend", 12, 44, { ops: ["GET /recommend"] }),
    call("shop/checkout", "shop/payments", 39, 71, { ops: ["POST /charge", "POST /refund"], errors: 0.041 }),
    call("shop/checkout", "shop/shipping", 37, 12, { ops: ["POST /quote"] }),
    call("shop/cart", "data/redis", 61, 0.4, { l7: "", port: 6379, ops: ["TCP"] }),
    call("shop/payments", "data/postgres", 23, 3, { l7: "", port: 5432, ops: ["TCP"] }),
    call("shop/payments", "world/api.stripe.example", 9, 64, { l7: "", port: 443, ops: ["TCP"] }),
    call("shop/recommend", "data/postgres", 2, 0, { l7: "", port: 5432, drop: { reason: "POLICY_DENIED", symbol: "", hint: "", policies: ["NetworkPolicy data/default-deny", "NetworkPolicy data/postgres-from-checkout"] } }),
    call("shop/shipping", "data/redis", 1.4, 0, { l7: "", port: 6380, drop: { reason: "NO_SOCKET", symbol: "tcp_v4_rcv", hint: "Nothing listens on this port at the destination." } }),
    call("platform/report", "data/postgres", 0.3, 120, { l7: "", port: 5432 }),
    call("shop/payments", "platform/vault", 1.1, 5, { ops: ["GET /v1/secret/{id}"] }),
    dns("shop/payments", 31), dns("shop/recommend", 9), dns("shop/cart", 18), dns("edge/web-bff", 7),
  ];
  return { kinds, calls };
}

/** A cluster of about 60 workloads in 8 namespaces. */
export function big(): World {
  const rnd = random(7);
  const kinds = new Map<string, string>();
  const calls: Call[] = [];
  const spaces = ["edge", "shop", "data", "billing", "search", "media", "platform", "world"];
  const names: string[][] = spaces.map((ns, i) => Array.from({ length: [3, 14, 7, 8, 9, 7, 8, 4][i]! }, (_, k) => `${ns}/${ns}-${["api", "worker", "cache", "db", "gate", "sync", "index", "batch", "queue", "auth", "mail", "feed", "rank", "log"][k]}`));
  names.forEach((list, i) => list.forEach((id) => kinds.set(id, i === 7 ? "World" : i === 2 ? "StatefulSet" : "Deployment")));
  const pick = (i: number): string => names[i]![Math.floor(rnd() * names[i]!.length)]!;
  for (let i = 0; i < 7; i++)
    for (const id of names[i]!) {
      for (let k = 0; k < 2; k++) calls.push(call(id, rnd() < 0.55 ? pick(i) : pick(Math.min(7, i + 1 + Math.floor(rnd() * 3))), 10 ** (rnd() * 2.5), 2 + rnd() * 60, { errors: rnd() < 0.12 ? 0.05 : 0 }));
      if (rnd() < 0.3) calls.push(call(id, "platform/platform-api", 3 + rnd() * 20, 0.8, { l7: "dns", port: 53, ops: ["A db.data.svc"] }));
    }
  calls.push(call("shop/shop-feed", "data/data-db", 3, 0, { l7: "", drop: { reason: "NO_SOCKET", symbol: "tcp_v4_rcv", hint: "Nothing listens on this port at the destination." } }));
  return { kinds, calls: [...new Map(calls.filter((c) => c.src !== c.dst).map((c) => [`${c.src}>${c.dst}${c.drop ? "!" : ""}`, c])).values()] };
}

/** How busy second `s` is against the mean. */
const swell = (s: number): number => 1 + 0.25 * Math.sin(s / 97) + 0.08 * Math.sin(s / 11);

function slowdown(s: number, c: Call): number {
  return c.errors > 0.03 && Math.sin(s / 140) > 0.75 ? 3 : 1;
}

/** Of an exchange the response is seen, which passes the responder's side first. */
function path(c: Call, us: number, lost: boolean): Hop[] {
  const sign = c.l7 ? -1 : 1;
  const hops: Hop[] = [
    { node: "node-a", point: "from-endpoint", time: us }, { node: "node-a", point: "to-network", time: us + sign * 8 },
    { node: "node-b", point: "from-network", time: us + sign * 19 }, { node: "node-b", point: "to-endpoint", time: us + sign * 328 },
  ];
  if (c.src.startsWith("world/")) return hops.slice(2);
  return lost ? hops.slice(0, 3) : hops;
}

function flowOf(c: Call, s: number, i: number, rnd: () => number): Flow {
  const us = s * 1e6 + Math.floor(rnd() * 1e6);
  const failed = !c.drop && rnd() < c.errors * slowdown(s, c);
  const op = c.ops[Math.floor(rnd() * rnd() * c.ops.length)]!;
  const latency = c.ms * slowdown(s, c) * (0.4 + rnd() * 0.8);
  const what = c.drop ? `${c.drop.reason} ${c.drop.policies ? "by " + c.drop.policies[0] : "in " + c.drop.symbol}`
    : c.l7 === "dns" ? `${op} -> ${failed ? "NXDOMAIN" : "10.4.2.11"}`
    : c.l7 === "http" ? `${op} -> ${failed ? 503 : 200}`
    : rnd() < 0.5 ? `TCP established in ${(latency / 4).toFixed(2)} ms` : "TCP closed after 1.2 s";
  const name = (id: string): string => (id.startsWith("world/") ? id.slice(6) : `${id}-${(id.length * 7919).toString(16).slice(0, 4)}`);
  return {
    id: `${s}-${c.src}-${c.dst}-${i}`, time: us, src: c.src, dst: c.dst, srcName: name(c.src), dstName: name(c.dst),
    srcAddr: `10.4.1.${(c.src.length * 7) % 250}:${40000 + Math.floor(rnd() * 9999)}`, dstAddr: `10.4.2.${(c.dst.length * 7) % 250}:${c.port}`,
    kind: c.drop ? "drop" : c.l7 ? "l7" : "new", what, verdict: c.drop ? "dropped" : "forwarded", failed,
    ...(c.drop ? { reason: c.drop.reason, symbol: c.drop.symbol } : {}),
    ...(c.drop?.policies ? { policy: { verdict: "dropped", match: "none", rule: -1, policies: c.drop.policies, text: "ingress default deny because of " + c.drop.policies.join(" and ") } } : {}),
    protocol: c.l7 ? c.l7.toUpperCase() : "TCP", latencyUs: c.drop || !c.l7 ? -1 : Math.round(latency * 1000),
    bytes: c.drop ? 74 : Math.round(200 + rnd() * 6000), packets: c.drop ? 1 : 4 + Math.floor(rnd() * 8),
    node: c.src.startsWith("world/") ? "node-b" : "node-a", point: c.src.startsWith("world/") ? "from-network" : "from-endpoint", path: path(c, us, !!c.drop),
  };
}

/** What policy denied of a call at a rate. */
function denials(c: Call, r: number, from: number, to: number): Pick<Edge, "denied" | "policies"> {
  const n = Math.round((r * (to - from)) / 1000);
  return c.drop?.policies ? { denied: r, policies: [{ verdict: "dropped", names: c.drop.policies, connections: n, packets: n, lastSeen: to }] } : {};
}

function matchFlow(f: Flow, q: Filter): boolean {
  const any = (v: string[] | undefined, test: (x: string) => boolean): boolean => !v?.length || v.some(test);
  return any(q.namespace, (n) => f.src.startsWith(n + "/") || f.dst.startsWith(n + "/"))
    && any(q.workload, (w) => f.src === w || f.dst === w)
    && any(q.edge, (e) => `${f.src}>${f.dst}` === e)
    && any(q.reason, (r) => f.reason === r)
    && any(q.policy, (p) => !!f.policy?.policies?.some((n) => n.endsWith(p)))
    && any(q.verdict, (v) => (v === "error" ? !!f.failed : f.verdict === v))
    && any(q.protocol, (p) => f.protocol.toLowerCase() === p || (p === "tcp" && f.protocol === "HTTP") || (p === "udp" && f.protocol === "DNS"))
    && (!q.text || JSON.stringify(f).toLowerCase().includes(q.text.toLowerCase()));
}

export class Lab {
  constructor(private readonly world: World) {}

  /** Flows of one second, at most a few per call. */
  second(s: number, q: Filter): Flow[] {
    const rnd = random(s);
    const out: Flow[] = [];
    for (const c of this.world.calls) {
      const n = c.rate * swell(s) * 0.12;
      const whole = Math.floor(n) + (rnd() < n % 1 ? 1 : 0);
      for (let i = 0; i < Math.min(whole, 6); i++) out.push(flowOf(c, s, i, rnd));
    }
    return out.filter((f) => matchFlow(f, q)).sort((a, b) => a.time - b.time);
  }

  flows(from: number, to: number, before: number, limit: number, q: Filter): Flow[] {
    const out: Flow[] = [];
    for (let s = Math.floor(Math.min(to, before / 1000 || to) / 1000); s >= from / 1000 && out.length < limit; s--)
      out.push(...this.second(s, q).filter((f) => !before || f.time < before).reverse());
    return out.slice(0, limit);
  }

  private callsFor(q: Filter): Call[] {
    return this.world.calls.filter((c) => {
      const rnd = random(1);
      const probe = c.ops.flatMap((o) => [{ ...flowOf({ ...c, ops: [o] }, 1, 0, rnd), failed: false }, ...(c.errors ? [{ ...flowOf({ ...c, ops: [o] }, 1, 0, rnd), failed: true }] : [])]);
      return probe.some((f) => matchFlow(f, q));
    });
  }

  snapshot(from: number, to: number, q: Filter): Snapshot {
    const s = Math.floor(to / 1000);
    const edges = new Map<string, Edge>();
    for (const c of this.callsFor(q)) {
      const id = `${c.src}>${c.dst}`;
      const r = c.rate * swell(s);
      const err = c.drop ? 0 : r * c.errors * slowdown(s, c);
      const e = edges.get(id) ?? { id, src: c.src, dst: c.dst, flows: 0, requests: 0, errors: 0, drops: 0, bytes: 0, p50: -1, p95: -1, rtt: -1, verdict: "forwarded", protocols: "", lastSeen: to };
      if (c.drop) Object.assign(e, { drops: r, dropReason: c.drop.reason, verdict: "dropped", protocols: `TCP ${c.port}`, ...denials(c, r, from, to) });
      else {
        Object.assign(e, { flows: r / 4, requests: c.l7 ? r : 0, errors: err, bytes: r * 3100, rtt: 0.4, protocols: c.l7 ? c.l7.toUpperCase() : `TCP ${c.port}` });
        if (c.l7) Object.assign(e, { p50: c.ms * 0.45, p95: c.ms * slowdown(s, c) });
        if (err > r * 0.01 && e.verdict !== "dropped") e.verdict = "error";
      }
      edges.set(id, e);
    }
    const nodes = new Map<string, Node>();
    const node = (id: string): Node => {
      const cut = id.indexOf("/");
      const n = nodes.get(id) ?? { id, group: id.slice(0, cut), name: id.slice(cut + 1), kind: this.world.kinds.get(id) ?? "Deployment", rate: 0, rateUnit: "conn/s", p95: -1, errorPct: -1, drops: 0, bytesIn: 0, bytesOut: 0, pods: 1 + (id.length % 3) };
      nodes.set(id, n);
      return n;
    };
    for (const e of edges.values()) {
      const [a, b] = [node(e.src), node(e.dst)];
      a.bytesOut += e.bytes;
      b.bytesIn += e.bytes;
      a.drops += e.drops;
      b.drops += e.drops;
      if (e.requests) {
        b.errorPct = ((Math.max(b.errorPct, 0) * b.rate) / 100 + e.errors) / (b.rate + e.requests) * 100;
        b.rate += e.requests;
        b.rateUnit = "req/s";
        b.p95 = Math.max(b.p95, e.p95);
      } else b.rate += e.flows;
    }
    const groups = [...new Set([...this.world.kinds.keys()].map((id) => id.slice(0, id.indexOf("/"))))];
    return { from, to, nodes: [...nodes.values()], edges: [...edges.values()], groups };
  }

  timeline(from: number, to: number, width: number, q: Filter): Bucket[] {
    const calls = this.callsFor(q);
    const out: Bucket[] = [];
    for (let t = Math.floor(from / width) * width; t < to; t += width) {
      const s = t / 1000;
      const b = { time: t, width, forwarded: 0, errors: 0, drops: 0 };
      for (const c of calls) {
        const n = (c.rate * swell(s) * width) / 1000;
        if (c.drop) b.drops += Math.round(n);
        else {
          const errors = Math.round(n * c.errors * slowdown(s, c));
          b.errors += errors;
          b.forwarded += Math.round(n) - errors;
        }
      }
      out.push(b);
    }
    return out;
  }

  detail(id: string, from: number, to: number, q: Filter): Detail {
    const mine = this.world.calls.filter((c) => (id.includes(">") ? `${c.src}>${c.dst}` === id : c.src === id || c.dst === id));
    const served = mine.filter((c) => !c.drop && (id.includes(">") || c.dst === id));
    const step = Math.max(5000, Math.round((to - from) / 60 / 5000) * 5000);
    const series = [];
    for (let t = Math.floor(from / step) * step; t < to; t += step) {
      const s = t / 1000;
      const rnd = random(s);
      const sum = (f: (c: Call) => number, of = served): number => of.reduce((x, c) => x + f(c), 0);
      const worst = Math.max(-1, ...served.filter((c) => c.l7).map((c) => c.ms * slowdown(s, c)));
      series.push({
        time: t, requests: sum((c) => c.rate * swell(s)), errors: sum((c) => c.rate * c.errors * slowdown(s, c)), drops: sum((c) => (c.drop ? c.rate : 0), mine),
        bytes: sum((c) => c.rate * 3100 * swell(s)), p50: worst < 0 ? -1 : worst * (0.4 + rnd() * 0.06), p95: worst < 0 ? -1 : worst * (0.95 + rnd() * 0.1), p99: worst < 0 ? -1 : worst * (1.3 + rnd() * 0.2),
      });
    }
    const only: Filter = id.includes(">") ? { ...q, edge: [id] } : { ...q, workload: [id] };
    const recent = this.flows(Math.max(from, to - 60_000), to, 0, 200, only);
    return {
      id, step, series,
      top: served.filter((c) => c.l7).flatMap((c) => c.ops.map((o, i) => ({ protocol: c.l7.toUpperCase(), name: o, rate: c.rate / 2 ** (i + 1), p95: c.ms * (1 + i * 0.2), errorPct: c.errors * 100 / (i + 1), status: c.errors > 0.01 ? (c.l7 === "dns" ? "NXDOMAIN" : "503") : c.l7 === "dns" ? "NOERROR" : "200" }))),
      policies: mine.flatMap((c) => denials(c, c.rate, from, to).policies ?? []),
      drops: mine.filter((c) => c.drop).map((c) => ({ ...c.drop!, count: Math.round((c.rate * (to - from)) / 1000) })),
      slow: recent.filter((f) => f.latencyUs >= 0).sort((a, b) => b.latencyUs - a.latencyUs).slice(0, 8),
      recent: recent.slice(0, 8),
    };
  }
}
