import { describe, expect, test } from "vitest";
import * as fmt from "../src/model/format.ts";
import { add, applySuggestion, complete, fromParams, isEmpty, merge, normalise, parseQuery, remove, toParams } from "../src/model/filter.ts";
import { applyTick, backoff, EMPTY_LIVE, mergeBuckets, prepend } from "../src/model/live.ts";
import { hops } from "../src/model/path.ts";
import { sumDrops, sumNames } from "../src/model/summary.ts";
import { bars, dragRange, niceStep, ticks, totals } from "../src/model/timeline.ts";
import * as policy from "../src/model/policy.ts";
import type { Bucket, Decision, Edge, Flow, Tick } from "../src/model/types.ts";
import { decode, encode, initialState, type ViewState } from "../src/model/url.ts";
import { edgeLabel, edgeTone, edgeWidth, isIdle, ofFlow } from "../src/model/verdict.ts";

describe("format", () => {
  test.each([
    [fmt.rate(412), "412/s"], [fmt.rate(0), "0/s"], [fmt.rate(0.004), "<0.01/s"], [fmt.rate(0.05), "0.05/s"], [fmt.rate(1.25), "1.3/s"], [fmt.rate(1284), "1.3k/s"], [fmt.rate(999.9), "1k/s"], [fmt.rate(-1), "–"],
    [fmt.millis(38), "38 ms"], [fmt.millis(0.4), "0.4 ms"], [fmt.millis(0.012), "12 µs"], [fmt.millis(1234), "1.2 s"], [fmt.millis(999.7), "1 s"], [fmt.millis(-1), "–"], [fmt.millis(0), "0 ms"], [fmt.millis(180_000), "3 min"],
    [fmt.micros(310), "0.31 ms"], [fmt.micros(8), "8 µs"], [fmt.micros(-1), "–"],
    [fmt.bytes(4200), "4.2 kB"], [fmt.bytes(74), "74 B"], [fmt.bytes(999_999), "1 MB"], [fmt.bytes(0), "0 B"], [fmt.byteRate(1.5e9), "1.5 GB/s"],
    [fmt.percent(3.84), "3.8%"], [fmt.percent(0), "0%"], [fmt.percent(100), "100%"], [fmt.percent(0.02), "<0.1%"], [fmt.percent(-1), "–"],
    [fmt.protocol("dns"), "DNS"], [fmt.protocol("ICMPv4"), "ICMPv4"], [fmt.count(1284.4), "1,284"], [fmt.plural(1, "flow"), "1 flow"], [fmt.plural(2000, "flow"), "2,000 flows"],
    [fmt.span(45_000), "45 s"], [fmt.span(60_000), "1 min"], [fmt.span(100_000), "100 s"], [fmt.span(900_000), "15 min"], [fmt.span(21_600_000), "6 h"], [fmt.span(3 * 86_400_000), "3 days"],
  ])("%s is %s", (got, want) => expect(got).toBe(want));

  test("times of day have milliseconds from microseconds", () => {
    expect(fmt.clockMicros(new Date(2026, 0, 2, 4, 5, 6, 78).getTime() * 1000 + 999)).toBe("04:05:06.078");
  });
  test("dates are told only where they are not today's", () => {
    const now = new Date(2026, 5, 1, 12).getTime();
    expect(fmt.when(now, now)).toBe("12:00:00");
    expect(fmt.when(now - 86_400_000, now)).toBe("2026-05-31 12:00:00");
  });
});

describe("filter", () => {
  test.each([
    ["ns:shop", { namespace: ["shop"] }],
    ["ns:shop verdict:DROPPED slow path", { namespace: ["shop"], verdict: ["dropped"], text: "slow path" }],
    ['ns:"host node-a" w:shop/cart', { namespace: ["host node-a"], workload: ["shop/cart"] }],
    ["proto:tcp proto:dns p:tcp", { protocol: ["dns", "tcp"] }],
    ['"GET /cart"', { text: "GET /cart" }],
    ['ns:"host open', { namespace: ["host open"] }],
    ["reason:no_socket edge:a/b>c/d", { reason: ["NO_SOCKET"], edge: ["a/b>c/d"] }],
    ["10.1.2.3:80 unknown:x :y", { text: "10.1.2.3:80 unknown:x :y" }],
    ["ns: verdict:", {}],
    ["", {}],
  ])("%s", (typed, want) => expect(add({}, parseQuery(typed))).toEqual(want));

  test("survives the link", () => {
    const f = normalise({ namespace: ["b", "a", "a"], workload: ["x/y z"], verdict: ["dropped"], text: "a&b=c #%" });
    expect(fromParams(new URLSearchParams(toParams(f).toString()))).toEqual(f);
  });
  test("removes one value, a field, the text", () => {
    const f = normalise({ namespace: ["a", "b"], text: "x" });
    expect(remove(f, "namespace", "a")).toEqual({ namespace: ["b"], text: "x" });
    expect(remove(f, "namespace")).toEqual({ text: "x" });
    expect(isEmpty(remove(remove(f, "namespace"), "text"))).toBe(true);
  });
  test("a second filter decides where both have a field", () => {
    expect(merge({ namespace: ["a"], verdict: ["error"], text: "x" }, { verdict: ["dropped"], text: "y" })).toEqual({ namespace: ["a"], verdict: ["dropped"], text: "x y" });
  });

  const known = { groups: ["shop", "data", "host node-a"], workloads: ["shop/cart", "data/redis-cart", "shop/frontend"], policies: ["data/default-deny", "data/redis"] };
  test.each([
    ["", ["ns:", "workload:", "verdict:", "proto:", "policy:"]],
    ["ns:s", ["ns:shop", 'ns:"host node-a"']],
    ["verdict:d", ["verdict:dropped", "verdict:forwarded", "verdict:audit"]],
    ["cart", ["workload:shop/cart", "workload:data/redis-cart"]],
    ['ns:"ho', ['ns:"host node-a"', "ns:shop"]],
    ["ns:shop ", ["ns:", "workload:", "verdict:", "proto:", "policy:"]],
    ["edge:x", []],
    ["policy:red", ["policy:data/redis"]],
    ["netpol:def", ["policy:data/default-deny"]],
  ])("completes %s", (typed, want) => expect(complete(typed, known).map((s) => s.insert)).toEqual(want));
  test("a suggestion takes the place of the last word", () => {
    expect(applySuggestion("ns:shop ca", complete("ns:shop ca", known)[0]!)).toBe("ns:shop workload:shop/cart ");
    expect(applySuggestion("ns:shop ", complete("ns:shop ", known)[0]!)).toBe("ns:shop ns:");
  });
});

describe("url", () => {
  const base = initialState();
  const states: ViewState[] = [
    base,
    { ...base, page: "drops", filter: { namespace: ["a b"], edge: ["x/y>z/w"] }, table: true, width: "bytes" },
    { ...base, range: { mode: "fixed", from: 1_700_000_000_000, to: 1_700_000_060_000 }, selection: { type: "edge", id: "x/y>z/w: v" } },
    { ...base, range: { mode: "last", seconds: 3600 }, selection: { type: "node", id: "host a/b" } },
    { ...base, range: { mode: "live", window: 900 } },
  ];
  test.each(states)("is read as it was written: $page $range", (s) => expect(decode("?" + encode(s))).toEqual(s));
  test("the first view has a clean link", () => expect(encode(base)).toBe(""));
  test("a flow is not in the link", () => expect(encode({ ...base, selection: { type: "flow", id: "1" } })).toBe(""));
  test.each(["?page=nope&window=3&sel=x", "?from=5&to=1", "?from=a&to=b&last=-1", "?window=1e9", "?%%%"])("nonsense opens the first view: %s", (q) => expect(decode(q)).toEqual(base));
});

const flow = (id: string, time: number, rest: Partial<Flow> = {}): Flow => ({
  id, time, src: "a/b", dst: "c/d", srcName: "", dstName: "", srcAddr: "", dstAddr: "", kind: "", what: "", verdict: "forwarded", protocol: "TCP", latencyUs: -1, bytes: 0, packets: 0, node: "", point: "", ...rest,
});
const bucket = (time: number, forwarded = 1, rest: Partial<Bucket> = {}): Bucket => ({ time, width: 1000, forwarded, errors: 0, drops: 0, ...rest });

describe("live", () => {
  const tick = (t: Partial<Tick>): Tick => ({ time: 1, map: { from: 0, to: 1, nodes: [], edges: [], groups: [] }, flows: [], ledger: { produced: 0, delivered: 0, exact: true, nodes: 1, flowsRate: 0 }, ...t });

  test("rows are newest first, never twice, never more than fit", () => {
    const rows = prepend(prepend([], [flow("1", 1), flow("2", 2)]), [flow("2", 2), flow("3", 3)]);
    expect(rows.map((r) => r.id)).toEqual(["3", "2", "1"]);
    expect(prepend(rows, [flow("4", 4)], 2).map((r) => r.id)).toEqual(["4", "3"]);
    expect(prepend(rows, [])).toBe(rows);
    expect(prepend(rows, [flow("3", 3)])).toBe(rows);
  });
  test("a reset replaces, other ticks add", () => {
    let s = applyTick(EMPTY_LIVE, tick({ reset: true, flows: [flow("1", 1)], timeline: [bucket(0)], skipped: 2 }));
    s = applyTick(s, tick({ time: 2, flows: [flow("2", 2)], timeline: [bucket(0, 5), bucket(1000)], skipped: 3 }));
    expect(s.flows.map((f) => f.id)).toEqual(["2", "1"]);
    expect(s.timeline.map((b) => b.forwarded)).toEqual([5, 1]);
    expect(s.skipped).toBe(5);
    s = applyTick(s, tick({ time: 3, reset: true, flows: [flow("9", 9)], timeline: [bucket(7000)] }));
    expect(s.flows.map((f) => f.id)).toEqual(["9"]);
    expect(s.timeline.map((b) => b.time)).toEqual([7000]);
    expect(s.skipped).toBe(0);
  });
  test("Go's null lists are empty", () => {
    expect(applyTick(EMPTY_LIVE, tick({ reset: true, flows: null, timeline: null })).flows).toEqual([]);
  });
  test("buckets older than the span go", () => {
    expect(mergeBuckets([bucket(0), bucket(1000)], [bucket(3000)], 3000).map((b) => b.time)).toEqual([1000, 3000]);
  });
  test("the pause before reconnecting doubles up to 15 s", () => {
    expect([0, 1, 2, 10].map((n) => backoff(n, () => 1))).toEqual([500, 1000, 2000, 15_000]);
    expect(backoff(3, () => 0)).toBe(2000);
  });
});

describe("timeline", () => {
  test("bars keep all events and are never narrower than the buckets", () => {
    const list = Array.from({ length: 90 }, (_, i) => bucket(i * 10_000, i, { width: 10_000, drops: 1 }));
    const b = bars(list, 0, 900_000, 60);
    expect(b.length).toBeLessThanOrEqual(60);
    expect(b[0]!.to - b[0]!.from).toBeGreaterThanOrEqual(10_000);
    expect(b.reduce((s, x) => s + x.forwarded, 0)).toBe(list.reduce((s, x) => s + x.forwarded, 0));
    expect(b.reduce((s, x) => s + x.drops, 0)).toBe(90);
  });
  test("even traffic gives even bars, whatever the width", () => {
    const list = Array.from({ length: 90 }, (_, i) => bucket(i * 10_000, 7, { width: 10_000 }));
    for (const max of [40, 55, 76, 90, 140]) expect(new Set(bars(list, 0, 900_000, max).slice(0, -1).map((b) => b.forwarded)).size, `${max}`).toBe(1);
  });
  test("no data are empty bars", () => expect(bars([], 0, 60_000, 60).every((b) => b.forwarded === 0)).toBe(true));
  test.each([[60_000, 60, 1000], [900_000, 100, 10_000], [86_400_000, 100, 900_000]])("step over %d ms in %d bars", (s, n, want) => expect(niceStep(s, n)).toBe(want));
  test("ticks are round and apart", () => {
    const t = ticks(1_700_000_003_000, 1_700_000_903_000, 900);
    expect(t.length).toBeGreaterThan(3);
    for (let i = 1; i < t.length; i++) expect(t[i]! - t[i - 1]!).toBe(t[1]! - t[0]!);
    expect(t.every((x) => x % 60_000 === 0)).toBe(true);
  });
  test("a drag is a range on seconds, either way, inside; a click is none", () => {
    expect(dragRange(0.5, 0.25, 0, 100_000)).toEqual({ from: 25_000, to: 50_000 });
    expect(dragRange(-1, 2, 0, 100_000)).toEqual({ from: 0, to: 100_000 });
    expect(dragRange(0.5, 0.51, 0, 100_000)).toEqual({ from: 50_000, to: 55_000 });
    expect(dragRange(0.5, 0.501, 0, 100_000)).toBeNull();
  });
  test("totals take a part of a bucket that is cut, and the filling one whole", () => {
    const list = [bucket(0, 10), bucket(1000, 10), bucket(2000, 4)];
    expect(totals(list, 500, 2400, 2400).forwarded).toBeCloseTo(5 + 10 + 4);
  });
});

const two = ["NetworkPolicy data/default-deny", "NetworkPolicy data/postgres-from-checkout"];
const decision = (rest: Partial<Decision> = {}): Decision => ({ verdict: "dropped", names: two, connections: 1, packets: 3, lastSeen: 5, ...rest });
const edge = (rest: Partial<Edge>): Edge => ({ id: "a>b", src: "a", dst: "b", flows: 0, requests: 0, errors: 0, drops: 0, bytes: 0, p50: -1, p95: -1, rtt: -1, verdict: "forwarded", protocols: "", lastSeen: 0, ...rest });

describe("verdict", () => {
  test.each([
    [flow("1", 1), "✓ forwarded"],
    [flow("1", 1, { failed: true }), "! failed"],
    [flow("1", 1, { verdict: "dropped", reason: "NO_SOCKET", what: "NO_SOCKET in tcp_v4_rcv" }), "✕ dropped"],
    [flow("1", 1, { verdict: "dropped", reason: "POLICY_DENIED", what: "TCP SYN" }), "✕ dropped POLICY_DENIED"],
    [flow("1", 1, { verdict: "audit" }), "◐ audit"],
    [flow("1", 1, { kind: "drop", verdict: "dropped", reason: "POLICY_DENIED", policy: { verdict: "dropped", match: "none", rule: -1, policies: two, text: "" } }), "✕ dropped: policy data/postgres-from-checkout +1"],
    [flow("1", 1, { kind: "verdict", verdict: "dropped", reason: "POLICY_DENIED" }), "✕ policy denied"],
    [flow("1", 1, { kind: "verdict", verdict: "audit" }), "◐ policy audit"],
    [flow("1", 1, { kind: "verdict" }), "✓ policy allowed"],
  ])("has a sign and a word", (f, want) => {
    const v = ofFlow(f);
    expect(`${v.sign} ${v.word}`).toBe(want);
  });
  test.each([
    [edge({ requests: 164 }), "164/s"],
    [edge({ requests: 100, errors: 4.1 }), "100/s · 4.1% failed"],
    [edge({ flows: 12 }), "12/s"],
    [edge({ drops: 2, dropReason: "NO_SOCKET" }), "2/s NO_SOCKET"],
    [edge({ drops: 2, requests: 50, dropReason: "NO_SOCKET" }), "2/s dropped"],
    [edge({}), ""],
    [edge({ drops: 2, denied: 1, flows: 1, dropReason: "POLICY_DENIED", policies: [decision()] }), "2/s data/postgres-from-checkout +1"],
    [edge({ denied: 1, flows: 1, policies: [decision({ packets: 0, names: ["NetworkPolicy data/default-deny"] })] }), "data/default-deny"],
    [edge({ drops: 2, flows: 50, dropReason: "NO_SOCKET", policies: [decision()] }), "2/s dropped"],
    [edge({ flows: 3, audited: 1, verdict: "audit", policies: [decision({ verdict: "audit" })] }), "would be denied: data/postgres-from-checkout +1"],
    [edge({ flows: 3, verdict: "audit" }), "3/s"],
  ])("labels say the worst", (e, want) => expect(edgeLabel(e)).toBe(want));
  test.each([
    [edge({ requests: 1000, errors: 1, verdict: "error" }), "ok"],
    [edge({ requests: 10, errors: 1, verdict: "error" }), "error"],
    [edge({ drops: 2, flows: 1, verdict: "dropped" }), "drop"],
    [edge({ drops: 2, flows: 100, verdict: "dropped" }), "ok"],
    [edge({ flows: 1, verdict: "audit" }), "audit"],
    [edge({ flows: 1, denied: 1, verdict: "dropped" }), "drop"],
    [edge({ flows: 5, drops: 1, denied: 1, verdict: "dropped" }), "ok"],
    [edge({ flows: 16, drops: 15, denied: 15, verdict: "dropped" }), "drop"],
  ])("colour is for what matters", (e, want) => expect(edgeTone(e)).toBe(want));
  test("silence is idle", () => expect([isIdle(edge({})), isIdle(edge({ bytes: 1 }))]).toEqual([true, false]));
  test("width grows with the rate, within bounds", () => {
    const w = [0, 1, 100, 1e9].map((r) => edgeWidth(edge({ requests: r }), "requests"));
    expect([...w].sort((a, b) => a - b)).toEqual(w);
    expect(w.at(-1)).toBeLessThanOrEqual(4.5);
  });
});

test("a path has the record's own observation once, from the initiator to the responder", () => {
  const f = flow("1", 10, { node: "a", point: "from-endpoint", path: [{ node: "b", point: "to-endpoint", time: 5 }, { node: "a", point: "to-network", time: 20 }, { node: "a", point: "from-endpoint", time: 10 }] });
  expect(hops(f).map((h) => h.point)).toEqual(["from-endpoint", "to-network", "to-endpoint"]);
});

describe("summary", () => {
  test("drops by reason, most first", () => {
    expect(sumDrops([edge({ drops: 1, dropReason: "A" }), edge({ drops: 5 }), edge({ drops: 2, dropReason: "A" }), edge({})])).toEqual([{ reason: "unknown", edges: 1, drops: 5 }, { reason: "A", edges: 2, drops: 3 }]);
  });
  test("names over servers, DNS alone", () => {
    const row = { protocol: "DNS", name: "A x", rate: 1, p95: 2, errorPct: 0, status: "NOERROR" };
    expect(sumNames([row, { ...row, rate: 3, p95: 5, errorPct: 100, status: "NXDOMAIN" }, { ...row, protocol: "HTTP", name: "GET /" }])).toEqual([{ name: "A x", rate: 4, p95: 5, errorPct: 75, status: "NXDOMAIN" }]);
  });
});

describe("policy", () => {
  test("a decision is a sentence", () => {
    expect(policy.sentence(decision())).toBe("default deny because of NetworkPolicy data/default-deny and NetworkPolicy data/postgres-from-checkout");
    expect(policy.sentence(decision({ verdict: "audit", names: ["A x/y"] }))).toBe("would be denied: default deny because of A x/y");
    expect(policy.sentence(decision({ verdict: "forwarded", names: ["a", "b", "c"] }))).toBe("allowed by a, b and c");
  });
  test.each([
    [two, "data/postgres-from-checkout +1"],
    [["NetworkPolicy data/default-deny"], "data/default-deny"],
    [["NetworkPolicy a/deny-all", "NetworkPolicy a/default-deny-ingress"], "a/deny-all +1"],
    [["no-kind"], "no-kind"],
    [[], ""],
  ])("the label of %s is %s", (names, want) => expect(policy.label(names)).toBe(want));
  test("labels have shorter forms, the last one narrow", () => {
    expect(policy.shortForms("2/s data/postgres-from-checkout +1", two)).toEqual(["data/postgres-from-checkout +1", "postgres-from-checkout +1", "postgres… +1"]);
    expect(policy.shortForms("data/redis", ["NetworkPolicy data/redis"])).toEqual(["redis"]);
  });
  test("a text is cut at the names in it, longest first", () => {
    expect(policy.cut("because of A x/ab and A x/a!", ["A x/a", "A x/ab", "A y/z", ""])).toEqual([
      { text: "because of ", name: false }, { text: "A x/ab", name: true }, { text: " and ", name: false }, { text: "A x/a", name: true }, { text: "!", name: false },
    ]);
    expect(policy.cut("", ["a"])).toEqual([]);
  });
  test("denials by policy, each with what it had a part in", () => {
    const edges = [edge({ policies: [decision(), decision({ verdict: "audit" })] }), edge({ id: "c>b", policies: [decision({ names: [two[0]!], packets: 2 })] }), edge({ policies: null })];
    expect(policy.sumPolicies(edges)).toEqual([
      { name: two[0], edges: 2, connections: 2, packets: 5 },
      { name: two[1], edges: 1, connections: 1, packets: 3 },
    ]);
  });
  test("lists of several edges are one list, denials first", () => {
    expect(policy.mergeDecisions([[decision({ verdict: "forwarded" }), decision({ verdict: "audit" })], null, [decision(), decision()], undefined])).toEqual([
      decision({ connections: 2, packets: 6 }), decision({ verdict: "audit" }), decision({ verdict: "forwarded" }),
    ]);
  });
  test("an edge is known for its denial, unless it loses more for another reason", () => {
    expect(policy.denialOf(edge({ drops: 1, dropReason: "POLICY_DENIED", policies: [decision()] }))?.names).toEqual(two);
    expect(policy.denialOf(edge({ drops: 1, dropReason: "NO_SOCKET", policies: [decision()] }))).toBeUndefined();
    expect(policy.denialOf(edge({ policies: [decision({ verdict: "audit" })] }))).toBeUndefined();
  });
});
