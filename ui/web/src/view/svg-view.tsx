import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, millis, percent, plural, rate } from "../model/format.ts";
import { GROUP_HEAD, type Rect, type Vec } from "../model/geometry.ts";
import { LABEL_H, labelWidth, placeCrosses, placeLabels, type PlacedLabel, type Spot } from "../model/labels.ts";
import { geometry, type Geometry, type View } from "../model/layout.ts";
import { boxName, Placer } from "../model/placer.ts";
import { routes, type Route } from "../model/route.ts";
import type { Edge, Node, Snapshot } from "../model/types.ts";
import { denialOf, isLossy, sentence, shortForms, worst } from "../model/policy.ts";
import { edgeLabel, edgeRate, edgeTone, edgeWidth, errorPct, hasTraffic, isIdle, labelRank, NOTABLE_ERRORS, ofNode } from "../model/verdict.ts";
import type { WidthBy } from "../model/url.ts";
import type { GraphView, GraphViewProps } from "./graph-view.ts";
import { useViewport } from "./viewport.ts";

const INSET = { top: 16, right: 20, bottom: 44, left: 20 };

/** What a card says: what it serves; for one that only calls, its calls. */
function figuresOf(n: Node, calls: readonly Edge[]): { name: string; rate: number; p95: number; errorPct: number } {
  if (n.rate > 0 || !calls.length) return { name: n.rateUnit === "conn/s" ? "conns" : "rate", rate: n.rate, p95: n.p95, errorPct: n.errorPct };
  const requests = calls.reduce((s, e) => s + e.requests, 0);
  const errors = calls.reduce((s, e) => s + e.errors, 0);
  return { name: "calls", rate: calls.reduce((s, e) => s + edgeRate(e), 0), p95: Math.max(-1, ...calls.map((e) => e.p95)), errorPct: requests > 0 ? (errors / requests) * 100 : -1 };
}

function Card(p: { node: Node; calls: readonly Edge[]; at: Rect; state: string; onSelect: () => void; onHover: (on: boolean) => void; onKey: (e: KeyboardEvent) => void; tab: boolean }): JSX.Element {
  const n = p.node;
  const tone = ofNode(n);
  const f = figuresOf(n, p.calls);
  const words = `${n.name}, ${n.kind} in ${n.group}: ${f.name} ${rate(f.rate)}, p95 ${millis(f.p95)}, errors ${percent(f.errorPct)}${n.drops > 0 ? `, ${rate(n.drops)} dropped` : ""}`;
  return (
    <button
      type="button" class={`card ${tone === "error" ? "failing" : ""} ${p.state}`} style={{ transform: `translate(${p.at.x}px,${p.at.y}px)` }} data-id={n.id} tabIndex={p.tab ? 0 : -1}
      aria-label={words} aria-pressed={p.state.includes("selected")} onClick={p.onSelect} onKeyDown={p.onKey}
      onPointerEnter={() => p.onHover(true)} onPointerLeave={() => p.onHover(false)} onFocus={() => p.onHover(true)} onBlur={() => p.onHover(false)}
    >
      <span class="card-head">
        <b title={n.name}>{n.name}</b>
        <small>{shortKind(n.kind)}</small>
      </span>
      <span class="card-figures">
        <span>
          <i>{f.name}</i>
          {rate(f.rate)}
        </span>
        <span>
          <i>p95</i>
          {millis(f.p95)}
        </span>
        <span class={f.errorPct >= NOTABLE_ERRORS ? "error" : ""}>
          <i>errors</i>
          {percent(f.errorPct)}
        </span>
      </span>
      {n.drops > 0 && (
        <span class="card-drops" title={`${rate(n.drops)} dropped to or from here`}>
          ✕ {rate(n.drops)}
        </span>
      )}
    </button>
  );
}

const KINDS: Record<string, string> = { Deployment: "Deploy", StatefulSet: "Stateful", DaemonSet: "Daemon", ReplicaSet: "Replica" };
const shortKind = (k: string): string => KINDS[k] ?? k;

function arrowHead(tip: Vec, dir: Vec, width: number): string {
  const half = 3.4 + width * 0.5;
  const back = { x: tip.x - dir.x * 9, y: tip.y - dir.y * 9 };
  const side = { x: -dir.y * half, y: dir.x * half };
  const at = (x: number, y: number): string => `${x.toFixed(1)},${y.toFixed(1)}`;
  return `${at(tip.x, tip.y)} ${at(back.x + side.x, back.y + side.y)} ${at(back.x - side.x, back.y - side.y)}`;
}

function edgeWords(e: Edge): string {
  const pct = errorPct(e);
  const dropped = e.drops > 0 ? `, ${rate(e.drops)} dropped: ${e.dropReason ?? "unknown reason"}` : "";
  const d = worst(e);
  return `${e.src} to ${e.dst}: ${e.protocols}, ${rate(edgeRate(e))}, ${bytes(e.bytes)}/s${pct > 0 ? `, ${percent(pct)} failed` : ""}${dropped}${d ? `\n${sentence(d)}` : ""}`;
}

function EdgeLine(p: { edge: Edge; route: Route; cross: Vec | undefined; width: WidthBy; state: string; onSelect: () => void; onHover: (on: boolean) => void }): JSX.Element {
  const e = p.edge;
  const lost = isLossy(e);
  const flows = hasTraffic(e) || !lost;
  const w = flows ? edgeWidth(e, p.width) : 1.75;
  return (
    <g class={`edge ${edgeTone(e)} ${isIdle(e) ? "idle" : ""} ${p.state}`} data-id={e.id} onClick={(ev) => (ev.stopPropagation(), p.onSelect())} onPointerEnter={() => p.onHover(true)} onPointerLeave={() => p.onHover(false)}>
      <title>{edgeWords(e)}</title>
      <path class="hit" d={p.route.d} />
      <path class="line" d={p.route.d} stroke-width={w} />
      {lost && flows && <path class="lost" d={p.route.d} />}
      <polygon class="head" points={arrowHead(p.route.tip, p.route.dir, w)} />
      {lost && p.cross && (
        <g class="cross" transform={`translate(${p.cross.x.toFixed(1)} ${p.cross.y.toFixed(1)})`}>
          <circle r="7.5" />
          <path d="M-2.8-2.8 2.8 2.8M2.8-2.8-2.8 2.8" />
        </g>
      )}
    </g>
  );
}

function Labels({ list, tones, dim }: { list: readonly PlacedLabel[]; tones: ReadonlyMap<string, string>; dim: (id: string) => boolean }): JSX.Element {
  return (
    <g class="labels" aria-hidden="true">
      {list.map((l) => (
        <g key={l.id} class={`label ${tones.get(l.id) ?? ""} ${dim(l.id) ? "dim" : ""}`} transform={`translate(${l.x.toFixed(1)} ${l.y.toFixed(1)})`}>
          <rect x={-l.w / 2} y={-LABEL_H / 2} width={l.w} height={LABEL_H} rx="4" />
          <text y="4">{l.text}</text>
        </g>
      ))}
    </g>
  );
}

/** The mark of drops at the corner of a card. */
const BADGE = { w: 76, h: 18 } as const;

interface Scene {
  geo: Geometry;
  ways: ReadonlyMap<string, Route>;
  crosses: ReadonlyMap<string, Vec>;
  labels: readonly PlacedLabel[];
}

/** Places, ways and labels, recomputed only when what they depend on changed. */
function useScene(p: GraphViewProps, room: () => View, touched: () => boolean, version: number): Scene {
  const layout = placer.update(p.subject, p.snapshot, room(), touched());
  const { geo, ways } = useMemo(() => {
    const g = geometry(layout);
    return { geo: g, ways: routes(g, layout.edges.values()) };
  }, [layout, version]);
  const before = useRef<{ key: string; ways: unknown; fractions: Map<string, Spot>; crosses: Map<string, Vec>; labels: readonly PlacedLabel[] }>({ key: "", ways: null, fractions: new Map(), crosses: new Map(), labels: [] });
  const texts = useMemo(() => {
    const edges = p.snapshot.edges ?? [];
    const wishes = edges
      .map((e) => {
        const text = edgeLabel(e);
        const policy = denialOf(e) ?? (edgeTone(e) === "audit" ? worst(e) : undefined);
        return { id: e.id, text, rank: labelRank(e), must: isLossy(e), ...(policy ? { shorter: shortForms(text, policy.names) } : {}) };
      })
      .filter((x) => x.text);
    // Most seconds change digits only: then every label is where it was.
    const old = before.current;
    const key = (p.snapshot.nodes ?? []).map((n) => n.id + (n.drops > 0)).join() + edges.map((e) => e.id + isLossy(e)).join() + wishes.map((x) => [labelWidth(x.text), ...(x.shorter ?? [])]).join();
    if (key === old.key && ways === old.ways) {
      const now = new Map(wishes.map((x) => [x.id, [x.text, ...(x.shorter ?? [])]]));
      return { crosses: old.crosses, labels: old.labels.map((l) => ({ ...l, text: now.get(l.id)?.[l.form] ?? l.text })) };
    }
    const seen = new Set((p.snapshot.nodes ?? []).map((n) => n.id));
    const rects: Rect[] = [...geo.cards].filter(([id]) => seen.has(id)).map(([, r]) => r);
    for (const [name, g] of geo.groups) rects.push({ x: g.x, y: g.y, w: Math.min(g.w, boxName(name).length * 8 + 28), h: GROUP_HEAD - 8 });
    for (const n of p.snapshot.nodes ?? []) {
      const c = geo.cards.get(n.id);
      if (c && n.drops > 0) rects.push({ x: c.x + c.w - BADGE.w, y: c.y - BADGE.h / 2, ...BADGE });
    }
    const drawn = new Map(edges.flatMap((e) => (ways.has(e.id) ? [[e.id, ways.get(e.id)!] as const] : [])));
    const lossy = edges.filter(isLossy).map((e) => e.id);
    const crosses = placeCrosses(lossy, { rects, ways: drawn });
    for (const c of crosses.values()) rects.push({ x: c.x - 9, y: c.y - 9, w: 18, h: 18 });
    const placed = placeLabels(wishes, { rects, ways: drawn }, old.fractions);
    before.current = { key, ways, crosses, ...placed };
    return { crosses, labels: placed.labels };
  }, [p.snapshot, geo, ways]);
  return { geo, ways, ...texts };
}

/** The nearest card in the direction of an arrow key. */
function neighbour(geo: Geometry, visible: ReadonlySet<string>, from: string, key: string): string | null {
  const dir: Record<string, Vec> = { ArrowRight: { x: 1, y: 0 }, ArrowLeft: { x: -1, y: 0 }, ArrowDown: { x: 0, y: 1 }, ArrowUp: { x: 0, y: -1 } };
  const d = dir[key];
  const a = geo.cards.get(from);
  if (!d || !a) return null;
  let best: string | null = null;
  let bestCost = Infinity;
  for (const [id, c] of geo.cards) {
    const [dx, dy] = [c.x - a.x, c.y - a.y];
    const ahead = dx * d.x + dy * d.y;
    if (ahead <= 0 || !visible.has(id)) continue;
    const cost = ahead + 3 * Math.abs(dx * d.y + dy * d.x);
    if (cost < bestCost) [best, bestCost] = [id, cost];
  }
  return best;
}

type Hover = { type: "node" | "edge"; id: string } | null;

/** What stands out: the hovered thing and its neighbours. */
function focusOf(hover: Hover, s: Snapshot): { nodes: Set<string>; edges: Set<string> } | null {
  if (!hover) return null;
  const touching = (s.edges ?? []).filter((e) => (hover.type === "edge" ? e.id === hover.id : e.src === hover.id || e.dst === hover.id));
  return { edges: new Set(touching.map((e) => e.id)), nodes: new Set([...touching.flatMap((e) => [e.src, e.dst]), ...(hover.type === "node" ? [hover.id] : [])]) };
}

/** Outlives the view, so that cards are where they were when a person comes back from another page. */
const placer = new Placer();

export const SvgView: GraphView = (p) => {
  const { port, box, world } = useViewport();
  const [version, setVersion] = useState(0);
  const [hover, setHover] = useState<Hover>(null);
  const [focus, setFocus] = useState("");
  const room = (): View => ({ w: Math.max(200, p.room.w - INSET.left - INSET.right), h: Math.max(120, p.room.h - INSET.top - INSET.bottom) });
  const { geo, ways, crosses, labels } = useScene(p, room, () => port.touched || p.selection !== null, version);
  const b = geo.bounds;
  const fit = (): void => port.fit(b, INSET);
  const latestFit = useRef(fit);
  latestFit.current = fit;

  useEffect(() => {
    if (!port.touched) fit();
  }, [b.x, b.y, b.w, b.h, version, p.room.w, p.room.h]);
  useEffect(() => latestFit.current(), [p.subject]);
  const arrange = useRef(() => {});
  arrange.current = () => {
    placer.arrange(p.snapshot, room());
    port.touched = false;
    setVersion((v) => v + 1);
  };
  useEffect(() => {
    p.handle({ fit: () => latestFit.current(), zoomBy: (f) => port.zoomBy(f), arrange: () => arrange.current() });
    return () => p.handle(null);
  }, []);
  const selectedNode = p.selection?.type === "node" ? p.selection.id : "";
  useEffect(() => {
    const r = geo.cards.get(selectedNode);
    if (r) port.reveal(r);
  }, [selectedNode]);

  const nodes = p.snapshot.nodes ?? [];
  const edges = p.snapshot.edges ?? [];
  const seen = new Set(nodes.map((n) => n.id));
  const shownGroups = new Set(nodes.map((n) => placer.layout.cells.get(n.id)?.group));
  const calls = new Map<string, Edge[]>();
  for (const e of edges) calls.set(e.src, [...(calls.get(e.src) ?? []), e]);
  const lit = focusOf(hover, p.snapshot);
  const state = (type: "node" | "edge", id: string): string => {
    const selected = p.selection?.type === type && p.selection.id === id ? "selected" : "";
    const dim = lit && !(type === "node" ? lit.nodes : lit.edges).has(id) ? "dim" : "";
    return `${selected} ${dim}`.trim();
  };
  const hovering = (type: "node" | "edge", id: string) => (on: boolean): void => setHover((h) => (on ? { type, id } : h?.id === id ? null : h));
  const tones = new Map(edges.map((e) => [e.id, isLossy(e) ? "drop" : edgeTone(e)]));
  const onKey = (e: KeyboardEvent): void => {
    const step: Record<string, [number, number]> = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (e.key === "+" || e.key === "=") port.zoomBy(1.25);
    else if (e.key === "-") port.zoomBy(0.8);
    else if (e.key === "0") fit();
    else if (step[e.key] && e.target === e.currentTarget) port.moveBy(...step[e.key]!);
    else return;
    e.preventDefault();
  };
  const cardKey = (id: string) => (e: KeyboardEvent): void => {
    const next = neighbour(geo, seen, id, e.key);
    if (!next) return;
    e.preventDefault();
    e.stopPropagation();
    setFocus(next);
    port.reveal(geo.cards.get(next)!);
    box.current?.querySelector<HTMLElement>(`[data-id="${CSS.escape(next)}"].card`)?.focus({ preventScroll: true });
  };
  const tabId = seen.has(focus) ? focus : nodes[0]?.id;
  return (
    <div
      class="graph" ref={box} tabIndex={0} role="group" aria-label={`Service map, ${plural(nodes.length, "workload")}. Arrow keys move between cards, plus and minus zoom, 0 fits. The table shows the same.`}
      onKeyDown={onKey} onPointerDown={port.down} onPointerMove={port.move}
      onPointerUp={(e) => {
        if (!port.up() && !(e.target as Element).closest(".card, .edge")) p.onSelect(null);
      }}
    >
      <div class="world" ref={world}>
        {[...geo.groups].filter(([g]) => shownGroups.has(g)).map(([g, r]) => (
          <div key={g} class="group" style={{ transform: `translate(${r.x}px,${r.y}px)`, width: `${r.w}px`, height: `${r.h}px` }}>
            <span>{boxName(g)}</span>
          </div>
        ))}
        <svg class="edges" width="1" height="1" aria-hidden="true">
          {edges.map((e) => {
            const route = ways.get(e.id);
            return route && <EdgeLine key={e.id} edge={e} route={route} cross={crosses.get(e.id)} width={p.width} state={state("edge", e.id)} onSelect={() => p.onSelect({ type: "edge", id: e.id })} onHover={hovering("edge", e.id)} />;
          })}
          <Labels list={labels} tones={tones} dim={(id) => lit !== null && !lit.edges.has(id)} />
        </svg>
        {nodes.map((n) => {
          const r = geo.cards.get(n.id);
          return r && <Card key={n.id} node={n} calls={calls.get(n.id) ?? []} at={r} state={state("node", n.id)} tab={n.id === tabId} onSelect={() => p.onSelect({ type: "node", id: n.id })} onHover={hovering("node", n.id)} onKey={cardKey(n.id)} />;
        })}
      </div>
    </div>
  );
};
