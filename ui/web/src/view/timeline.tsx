import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { clock, count, plural, rate, UNKNOWN, span as spanWords, when } from "../model/format.ts";
import { bars, dragRange, ticks, totals, type Bar } from "../model/timeline.ts";
import { go, goLive, goRange, isLive, live, loading, span, timeline, view, widen } from "../state.ts";
import { BackIcon, ForwardIcon, MinusIcon } from "./icons.tsx";
import { useSize } from "./parts.tsx";

const HEIGHT = 48;
/** Pixels of a bar with its gap. */
const BAR = 8;
/** Width of a time on the axis. */
const AXIS_LABEL = 36;

function Bars(p: { list: readonly Bar[]; width: number; from: number; to: number }): JSX.Element {
  const top = Math.max(1, ...p.list.map((b) => b.forwarded + b.errors + b.drops));
  const x = (t: number): number => ((t - p.from) / (p.to - p.from)) * p.width;
  return (
    <>
      {p.list.map((b) => {
        const x0 = Math.max(0, x(b.from));
        const w = Math.max(1, Math.min(x(b.to), p.width) - x0 - 1.5);
        // What failed is never thinner than a line that can be seen.
        const part = (v: number): number => (v > 0 ? Math.max(1.5, (v / top) * (HEIGHT - 4)) : 0);
        const [f, e, d] = [part(b.forwarded), part(b.errors), part(b.drops)];
        const h = Math.min(HEIGHT, f + e + d);
        const y = HEIGHT - h;
        return (
          <g key={b.from}>
            <rect class="bar-ok" x={x0} y={y + d + e} width={w} height={Math.max(0, h - d - e)} />
            {e > 0 && <rect class="bar-error" x={x0} y={y + d} width={w} height={e} />}
            {d > 0 && <rect class="bar-drop" x={x0} y={y} width={w} height={d} />}
          </g>
        );
      })}
    </>
  );
}

function Legend(): JSX.Element {
  const s = span.value;
  const t = timeline.value;
  const within = totals(t.buckets, s.from, s.to, t.to);
  const all = within.forwarded + within.errors + within.drops;
  const seconds = Math.max(1, (s.to - s.from) / 1000);
  const ledger = live.value.ledger;
  const figure = (n: number): string => (s.to > 0 ? rate(n / seconds) : UNKNOWN);
  return (
    <dl class="timeline-legend">
      <div>
        <dt class="key ok">traffic</dt>
        <dd>{figure(all)}</dd>
      </div>
      <div>
        <dt class="key error">errors</dt>
        <dd>{figure(within.errors)}</dd>
      </div>
      <div>
        <dt class="key drop">drops</dt>
        <dd>{figure(within.drops)}</dd>
      </div>
      {isLive.value && ledger && (
        <button type="button" class={`ledger ${ledger.exact ? "ok" : "error"}`} onClick={() => go({ page: "nodes", selection: null })} title="Every event is accounted for: produced = delivered + lost">
          {ledger.exact ? "✓ ledger exact" : `! ${count(ledger.produced - ledger.delivered)} not delivered`}
        </button>
      )}
    </dl>
  );
}

function HistoryBar(): JSX.Element | null {
  const r = view.value.range;
  if (r.mode === "live") return null;
  const shift = (by: number): void => {
    if (r.mode !== "fixed") return;
    const step = (r.to - r.from) * by;
    goRange(r.from + step, r.to + step);
  };
  return (
    <div class="history-bar">
      <span class="history-word">History</span>
      <span>{r.mode === "fixed" ? spanWords(r.to - r.from) : "up to now"}</span>
      {r.mode === "fixed" && (
        <span class="button-row">
          <button type="button" class="button small square" aria-label="Earlier" title="Earlier" onClick={() => shift(-1)}>
            <BackIcon />
          </button>
          <button type="button" class="button small square" aria-label="Later" title="Later" disabled={r.to >= Date.now() - 1000} onClick={() => shift(1)}>
            <ForwardIcon />
          </button>
          <button type="button" class="button small square" aria-label="Twice as long" title="Twice as long" onClick={widen}>
            <MinusIcon />
          </button>
        </span>
      )}
      <button type="button" class="button small accent" onClick={goLive}>
        Back to live
      </button>
    </div>
  );
}

export function Timeline(): JSX.Element {
  const [ref, { w }] = useSize<HTMLDivElement>();
  const drag = useSignal<{ a: number; b: number } | null>(null);
  const hover = useSignal<Bar | null>(null);
  const t = timeline.value;
  const list = useMemo(() => (w > 0 && t.to > t.from && t.to > 0 && t.from > 0 ? bars(t.buckets, t.from, t.to, w / BAR) : []), [t, w]);
  const from = list[0]?.from ?? t.from;
  const to = list.at(-1)?.to ?? t.to;
  const fraction = (e: PointerEvent): number => {
    const box = (e.currentTarget as Element).getBoundingClientRect();
    return (e.clientX - box.left) / box.width;
  };
  const onDown = (e: PointerEvent): void => {
    if (e.button !== 0 || !list.length) return;
    (e.currentTarget as Element).setPointerCapture(e.pointerId);
    drag.value = { a: fraction(e), b: fraction(e) };
  };
  const onMove = (e: PointerEvent): void => {
    if (drag.value) drag.value = { ...drag.value, b: fraction(e) };
    hover.value = list[Math.floor(fraction(e) * list.length)] ?? null;
  };
  const onUp = (): void => {
    const d = drag.value;
    drag.value = null;
    const r = d && dragRange(d.a, d.b, from, to);
    if (r) goRange(r.from, Math.min(r.to, t.to));
  };
  const r = view.value.range;
  const s = span.value;
  const marked = drag.value ? { a: Math.min(drag.value.a, drag.value.b), b: Math.max(drag.value.a, drag.value.b) }
    : r.mode === "last" || !list.length ? null : { a: (s.from - from) / (to - from), b: (s.to - from) / (to - from) };
  const pct = (v: number): string => `${Math.min(100, Math.max(0, v * 100))}%`;
  const h = hover.value;
  const sum = totals(t.buckets, t.from, t.to, t.to);
  return (
    <section class="timeline" aria-label="Timeline">
      <div class="timeline-plot">
        <div class="timeline-bars" ref={ref} onPointerDown={onDown} onPointerMove={onMove} onPointerUp={onUp} onPointerCancel={() => (drag.value = null)} onPointerLeave={() => (hover.value = null)} title={h ? undefined : "Drag to choose a range"}>
          <svg width={w} height={HEIGHT} role="img" aria-label={`Events over time: ${plural(sum.forwarded, "forwarded", "forwarded")}, ${plural(sum.errors, "error")}, ${plural(sum.drops, "drop")}`}>
            <line class="axis" x1="0" x2={w} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} />
            <Bars list={list} width={w} from={from} to={to} />
          </svg>
          {marked && marked.b > 0 && <div class={`brush ${r.mode === "live" && !drag.value ? "window" : ""}`} style={{ left: pct(marked.a), width: `calc(${pct(marked.b)} - ${pct(marked.a)})` }} />}
          {h && (
            <div class="tip" style={{ left: `clamp(0px, calc(${pct((h.from - from) / (to - from))} - 70px), calc(100% - 150px))` }}>
              <b>{when(h.from)}</b>
              <span class="key ok">{count(h.forwarded)}</span>
              <span class="key error">{count(h.errors)}</span>
              <span class="key drop">{count(h.drops)}</span>
            </div>
          )}
          {!list.length && loading.value && <div class="skeleton-line" />}
        </div>
        <div class="timeline-axis" aria-hidden="true">
          {list.length > 0 && ticks(from, to, w).filter((m) => ((m - from) / (to - from)) * w < w - AXIS_LABEL).map((m) => (
            <span key={m} style={{ left: pct((m - from) / (to - from)) }}>
              {clock(m, to - from < 300_000)}
            </span>
          ))}
        </div>
      </div>
      <div class="timeline-side">
        <Legend />
        <HistoryBar />
      </div>
    </section>
  );
}
