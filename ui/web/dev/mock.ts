import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { HttpServer, Plugin } from "vite";
import { WebSocketServer, type WebSocket } from "ws";
import { fromParams } from "../src/model/filter.ts";
import type { Filter, Ledger, Subscribe, Tick } from "../src/model/types.ts";
import { Lab, big, shop } from "./lab.ts";

/**
 * The API with invented traffic, for work on the page: `npm run dev:mock`. MOCK=big shows 60 workloads, MOCK=empty nothing,
 * MOCK=error a storage that doesn't answer, MOCK=silent a server that never sends a tick.
 */

const LEDGER: Ledger = { produced: 482_113, delivered: 482_113, lost: {}, exact: true, nodes: 2, flowsRate: 1284 };

function serve(lab: Lab, mode: string, req: IncomingMessage, res: ServerResponse): void {
  const url = new URL(req.url ?? "/", "http://localhost");
  const q = fromParams(url.searchParams);
  const now = Date.now();
  const from = Number(url.searchParams.get("from") ?? now - 900_000);
  const to = Number(url.searchParams.get("to") ?? now);
  const send = (status: number, body: unknown): void => {
    res.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  };
  if (mode === "error") return send(503, { error: "storage does not answer: dial tcp 127.0.0.1:9000: connection refused" });
  switch (url.pathname) {
    case "/api/v1/map": {
      const width = Math.max(5000, Math.round((to - from) / 120 / 5000) * 5000);
      return send(200, { ...lab.snapshot(from, to, q), timeline: lab.timeline(from, to, width, q) });
    }
    case "/api/v1/flows": {
      const flows = lab.flows(from, to, Number(url.searchParams.get("before") ?? 0), Number(url.searchParams.get("limit") ?? 200), q);
      return send(200, { flows, next: flows.at(-1)?.time ?? 0 });
    }
    case "/api/v1/node":
    case "/api/v1/edge":
      return send(200, lab.detail(url.searchParams.get("id") ?? "", from, to, q));
    case "/api/v1/status":
      return send(200, {
        version: "0.1.0-dev", storage: "embedded:/var/lib/parallax", oldest: now - 6 * 3600_000, ledger: LEDGER,
        nodes: ["node-a", "node-b"].map((name, i) => ({ name, state: "connected", since: now - 3_600_000 * (i + 1), flows: 241_056 + i, lost: 0, delivered: 241_056 + i })),
      });
  }
  send(404, { error: "no such resource" });
}

function stream(lab: Lab, ws: WebSocket): void {
  let filter: Filter = {};
  let window = 60;
  let paused = false;
  let reset = true;
  const tick = (): void => {
    const now = Date.now();
    const s = Math.floor(now / 1000) - 1;
    const flows = reset ? lab.flows(now - 30_000, now, 0, 200, filter).reverse() : lab.second(s, filter);
    const t: Tick = {
      time: now, reset, map: lab.snapshot(now - window * 1000, now, filter), flows: paused ? [] : flows.slice(-200),
      timeline: reset ? lab.timeline(now - 900_000, now, 5000, filter) : lab.timeline(now - 5000, now, 5000, filter), ledger: LEDGER,
    };
    reset = false;
    ws.send(JSON.stringify(t));
  };
  let timer: NodeJS.Timeout | undefined;
  ws.on("message", (data) => {
    const m = JSON.parse(String(data)) as Subscribe;
    if (m.op === "subscribe") {
      [filter, window, reset] = [m.filter, m.window || 60, true];
      tick();
      timer ??= setInterval(tick, 1000);
    } else paused = m.op === "pause";
  });
  ws.on("close", () => clearInterval(timer));
}

export function mockApi(): Plugin {
  const mode = process.env["MOCK"] ?? "lab";
  const lab = new Lab(mode === "big" ? big() : mode === "empty" ? { kinds: new Map(), calls: [] } : shop());
  const attach = (server: HttpServer | null): void => {
    const wss = new WebSocketServer({ noServer: true });
    server?.on("upgrade", (req: IncomingMessage, socket: Duplex, head: Buffer) => {
      if (req.url !== "/api/v1/ws") return;
      if (mode === "error") return void socket.destroy();
      wss.handleUpgrade(req, socket, head, (ws) => mode !== "silent" && stream(lab, ws));
    });
  };
  const handle = (req: IncomingMessage, res: ServerResponse, next: () => void): void => {
    if (req.url?.startsWith("/api/")) serve(lab, mode, req, res);
    else next();
  };
  return {
    name: "mock-api",
    configureServer(server) {
      attach(server.httpServer as HttpServer | null);
      server.middlewares.use(handle);
    },
    configurePreviewServer(server) {
      attach(server.httpServer as HttpServer);
      server.middlewares.use(handle);
    },
  };
}
