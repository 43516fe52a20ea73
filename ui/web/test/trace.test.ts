import { describe, expect, test } from "vitest";
import { exchanges } from "../src/model/trace.ts";
import type { Flow, Trace, TraceSpan } from "../src/model/types.ts";

const flow = (id: string, src: string, dst: string): Flow => ({
  id, src, dst, time: 0, srcName: src, dstName: dst, srcAddr: "", dstAddr: "", kind: "l7", what: "", verdict: "forwarded", protocol: "http", latencyUs: 0, bytes: 0, packets: 0, node: "n", point: "from-endpoint",
});

const span = (f: Flow, side: "client" | "server", depth: number, startUs: number, durationUs: number): TraceSpan => ({
  id: `${f.id}${side}`, depth, side, service: side === "client" ? f.src : f.dst, name: "GET /", what: "GET /", protocol: "http", startUs, durationUs, ...(f.failed ? { failed: true } : {}), status: f.failed ? "503" : "200", node: "n", point: "p", flow: f,
});

const trace = (durationUs: number, ...spans: TraceSpan[]): Trace => ({ id: "4bf9", start: 0, durationUs, services: 3, spans });

describe("waterfall", () => {
  const a = flow("a", "edge/gateway", "shop/web");
  const b = { ...flow("b", "shop/web", "shop/cart"), failed: true };
  const c = flow("c", "shop/web", "shop/ads");

  test("both ends of an exchange are one row, calls are below the request that made them", () => {
    const rows = exchanges(
      trace(1000, span(a, "client", 0, 0, 1000), span(a, "server", 1, 10, 980), span(b, "client", 2, 125, 250), span(b, "server", 3, 250, 125), span(c, "client", 2, 500, 400)),
    );
    expect(rows.map((r) => [r.depth, r.service, r.failed])).toEqual([[0, "shop/web", false], [1, "shop/cart", true], [1, "shop/ads", false]]);
    expect(rows[0]).toMatchObject({ client: { left: 0, width: 100 }, server: { left: 1, width: 98 }, durationUs: 1000 });
    expect(rows[1]).toMatchObject({ client: { left: 12.5, width: 25 }, server: { left: 25, width: 12.5 }, status: "503" });
    expect(rows[2]).toMatchObject({ client: { left: 50, width: 40 }, server: null });
  });

  test("an exchange that only its server saw", () => {
    expect(exchanges(trace(100, span(a, "server", 0, 0, 100), span(b, "client", 1, 20, 30)))).toMatchObject([
      { depth: 0, client: null, server: { left: 0, width: 100 } },
      { depth: 1, client: { left: 20, width: 30 }, server: null },
    ]);
  });

  test("the server's clock may be ahead or behind", () => {
    for (const start of [-50, 90]) {
      const { left, width } = exchanges(trace(100, span(a, "client", 0, 0, 100), span(a, "server", 1, start, 90)))[0]!.server!;
      expect(left).toBeGreaterThanOrEqual(0);
      expect(left + width).toBeLessThanOrEqual(100);
    }
  });

  test("what takes no time is seen all the same", () => {
    expect(exchanges(trace(1000, span(a, "client", 0, 1000, 0)))[0]!.client).toEqual({ left: 99, width: 1 });
    expect(exchanges(trace(0, span(a, "client", 0, 0, 0)))[0]!.client).toEqual({ left: 0, width: 100 });
  });

  test("a trace without spans", () => expect(exchanges({ ...trace(0), spans: null })).toEqual([]));
});
