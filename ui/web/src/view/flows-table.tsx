import { signal, useSignal } from "@preact/signals";
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { bytes, clockMicros, count, micros, plural, protocol, rate } from "../model/format.ts";
import type { Flow } from "../model/types.ts";
import { ofFlow } from "../model/verdict.ts";
import { connection, failure, isLive, live, loadMore, paused, retry, rows as allRows, save, saved, setPaused, showFlow, stored, view } from "../state.ts";
import { CloseIcon, PauseIcon, PlayIcon } from "./icons.tsx";
import { FlowVerdict, Menu } from "./parts.tsx";

const ROW = 26;

interface ColumnSpec {
  key: string;
  name: string;
  /** CSS grid track. */
  track: string;
  class?: string;
  cell: (f: Flow) => JSX.Element | string;
}

const side = (name: string, id: string, addr: string): JSX.Element => {
  // A name without a group is an address or a DNS name: there the port says more.
  const port = addr.slice(addr.lastIndexOf(":") + 1);
  return (
    <span title={`${name}\n${addr}`}>
      {name.includes("/") ? id : name}
      {/^\d+$/.test(port) && Number(port) < 32768 && <span class="faint">:{port}</span>}
    </span>
  );
};

const COLUMNS: readonly ColumnSpec[] = [
  { key: "time", name: "time", track: "104px", class: "mono faint", cell: (f) => clockMicros(f.time) },
  { key: "src", name: "source", track: "minmax(110px,1.1fr)", cell: (f) => side(f.srcName, f.src, f.srcAddr) },
  { key: "dst", name: "destination", track: "minmax(120px,1.2fr)", cell: (f) => side(f.dstName, f.dst, f.dstAddr) },
  { key: "what", name: "what", track: "minmax(180px,2.2fr)", class: "mono", cell: (f) => <span title={f.what}>{f.what.replaceAll("->", "→")}</span> },
  { key: "verdict", name: "verdict", track: "minmax(112px,1.6fr)", cell: (f) => <span title={ofFlow(f).word}><FlowVerdict flow={f} /></span> },
  { key: "latency", name: "latency", track: "72px", class: "num", cell: (f) => micros(f.latencyUs) },
  { key: "bytes", name: "bytes", track: "68px", class: "num", cell: (f) => bytes(f.bytes) },
  { key: "packets", name: "packets", track: "64px", class: "num", cell: (f) => count(f.packets) },
  { key: "protocol", name: "protocol", track: "72px", cell: (f) => protocol(f.protocol) },
  { key: "node", name: "node", track: "92px", class: "faint", cell: (f) => f.node },
  { key: "point", name: "point", track: "108px", class: "faint", cell: (f) => f.point },
];

const HIDDEN_AT_FIRST = ["packets", "protocol", "point", "node"];
const hidden = signal<ReadonlySet<string>>(new Set(saved("columns")?.split(",") ?? HIDDEN_AT_FIRST));

function toggleColumn(key: string): void {
  const next = new Set(hidden.value);
  if (!next.delete(key)) next.add(key);
  hidden.value = next;
  save("columns", [...next].join(","));
}

/** Rows that fit a virtual window, and the scroll position kept when rows come in above. */
function useVirtual(rows: readonly Flow[], body: { current: HTMLDivElement | null }): Virtualizer<HTMLDivElement, HTMLDivElement> {
  const [, render] = useState(0);
  const v = useRef<Virtualizer<HTMLDivElement, HTMLDivElement> | null>(null);
  const options = {
    count: rows.length, getScrollElement: () => body.current, estimateSize: () => ROW, overscan: 8,
    observeElementRect, observeElementOffset, scrollToFn: elementScroll, onChange: () => render((n) => n + 1),
  };
  v.current ??= new Virtualizer(options);
  v.current.setOptions(options);
  useLayoutEffect(() => v.current!._didMount(), []);
  useLayoutEffect(() => v.current!._willUpdate());
  const first = useRef<string | undefined>(undefined);
  useLayoutEffect(() => {
    const el = body.current;
    const was = first.current;
    first.current = rows[0]?.id;
    if (!el || !was || was === rows[0]?.id || el.scrollTop < ROW) return;
    const added = rows.findIndex((r) => r.id === was);
    if (added > 0) el.scrollTop += added * ROW;
  }, [rows]);
  return v.current;
}

function exportRows(rows: readonly Flow[]): void {
  const url = URL.createObjectURL(new Blob(rows.map((r) => JSON.stringify(r) + "\n"), { type: "application/x-ndjson" }));
  const a = document.createElement("a");
  a.href = url;
  a.download = "flows.jsonl";
  a.click();
  URL.revokeObjectURL(url);
}

function Subtitle({ shown }: { shown: number }): JSX.Element {
  if (isLive.value) {
    const { ledger, skipped } = live.value;
    return (
      <span class="subtitle">
        {paused.value ? "paused" : ledger ? `${rate(ledger.flowsRate)} in all` : ""} · {count(shown)} shown, newest first
        {skipped > 0 && <span title="They matched, but were too many to send. Storage has them: choose a range on the timeline"> · {count(skipped)} more in storage</span>}
      </span>
    );
  }
  return (
    <span class="subtitle">
      {plural(shown, "flow")} from storage, newest first{stored.value.next ? ", more below" : ""}
    </span>
  );
}

function TableHead(p: { rows: readonly Flow[]; title: string; only: string; clearOnly: () => void }): JSX.Element {
  return (
    <div class="flows-head">
      <h2>{p.title}</h2>
      <Subtitle shown={p.rows.length} />
      {p.only && (
        <span class="chip">
          <span class="chip-field">only</span> <b title={p.only}>{p.only}</b>
          <button type="button" aria-label="Show all flows" onClick={p.clearOnly}>
            <CloseIcon />
          </button>
        </span>
      )}
      <span class="button-row end">
        {isLive.value && (
          <button type="button" class={`button small ${paused.value ? "accent" : ""}`} aria-pressed={paused.value} onClick={() => setPaused(!paused.value)}>
            {paused.value ? <PlayIcon /> : <PauseIcon />}
            {paused.value ? "Resume" : "Pause"}
          </button>
        )}
        <Menu label="Columns" name="Columns" align="right" class="small">
          {() =>
            COLUMNS.map((c) => (
              <label key={c.key} class="menu-item check">
                <input type="checkbox" checked={!hidden.value.has(c.key)} disabled={c.key === "what"} onChange={() => toggleColumn(c.key)} />
                {c.name}
              </label>
            ))
          }
        </Menu>
        <button type="button" class="button small" disabled={!p.rows.length} onClick={() => exportRows(p.rows)} title="The rows shown, as JSON lines">
          Export
        </button>
      </span>
    </div>
  );
}

function EmptyRows(): JSX.Element {
  if (failure.value)
    return (
      <p class="rows-note drop" role="alert">
        ! {failure.value}{" "}
        <button type="button" class="text-link" onClick={retry}>
          Try again
        </button>
      </p>
    );
  const waiting = isLive.value ? live.value.time === 0 || connection.value.state !== "open" : stored.value.loading;
  return <p class="rows-note">{waiting ? "Reading flows…" : isLive.value ? "No flow yet that matches." : "No stored flow matches in this range."}</p>;
}

function Row(p: { flow: Flow; columns: readonly ColumnSpec[]; top: number; index: number; selected: boolean; tab: boolean; onKey: (e: KeyboardEvent) => void }): JSX.Element {
  const f = p.flow;
  return (
    <div
      role="row" aria-rowindex={p.index + 2} aria-selected={p.selected} tabIndex={p.tab ? 0 : -1} data-row={p.index}
      class={`row ${p.selected ? "selected" : ""} ${f.verdict === "dropped" ? "is-drop" : f.failed ? "is-error" : f.verdict === "audit" ? "is-audit" : ""}`}
      style={{ transform: `translateY(${p.top}px)` }} onClick={() => showFlow(f)} onKeyDown={p.onKey}
    >
      {p.columns.map((c) => (
        <span key={c.key} role="cell" class={`cell ${c.class ?? ""}`}>
          {c.cell(f)}
        </span>
      ))}
    </div>
  );
}

export function FlowsTable({ title = "Flows" }: { title?: string }): JSX.Element {
  const body = useRef<HTMLDivElement>(null);
  const only = useSignal(true);
  const focus = useSignal(0);
  const sel = view.value.selection;
  const narrowed = view.value.page === "map" && only.value && (sel?.type === "node" || sel?.type === "edge") ? sel : null;
  const rows = narrowed ? allRows.value.filter((f) => (narrowed.type === "edge" ? `${f.src}>${f.dst}` === narrowed.id : f.src === narrowed.id || f.dst === narrowed.id)) : allRows.value;
  useEffect(() => {
    only.value = true;
  }, [sel?.type === "flow" ? "" : sel?.id]);
  const v = useVirtual(rows, body);
  const items = v.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (rows.length && last >= rows.length - 30) void loadMore();
  }, [last, rows.length]);
  const columns = COLUMNS.filter((c) => !hidden.value.has(c.key));
  const onKey = (e: KeyboardEvent): void => {
    const step: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity };
    if (e.key === "Enter" || e.key === " ") {
      e.preventDefault();
      const f = rows[focus.value];
      if (f) showFlow(f);
      return;
    }
    const by = step[e.key];
    if (by === undefined) return;
    e.preventDefault();
    focus.value = Math.min(rows.length - 1, Math.max(0, focus.value + by));
    v.scrollToIndex(focus.value);
    requestAnimationFrame(() => body.current?.querySelector<HTMLElement>(`[data-row="${focus.value}"]`)?.focus({ preventScroll: true }));
  };
  const away = (v.scrollOffset ?? 0) > ROW * 2;
  return (
    <section class="flows" aria-label={title} style={{ "--tracks": columns.map((c) => c.track).join(" ") }}>
      <TableHead rows={rows} title={title} only={narrowed ? narrowed.id.replace(">", " → ") : ""} clearOnly={() => (only.value = false)} />
      <div class="flows-grid" role="table" aria-label={title} aria-rowcount={rows.length + 1}>
        <div class="row head" role="row" aria-rowindex={1}>
          {columns.map((c) => (
            <span key={c.key} role="columnheader" class={`cell ${c.class?.includes("num") ? "num" : ""}`}>
              {c.name}
            </span>
          ))}
        </div>
        <div class="flows-body" ref={body} role="rowgroup">
          {!rows.length && <EmptyRows />}
          <div class="flows-space" style={{ height: `${v.getTotalSize()}px` }}>
            {items.map((i) => {
              const f = rows[i.index];
              return f && <Row key={f.id} flow={f} columns={columns} top={i.start} index={i.index} selected={sel?.id === f.id} tab={i.index === Math.min(focus.value, rows.length - 1)} onKey={onKey} />;
            })}
          </div>
        </div>
        {away && isLive.value && (
          <button type="button" class="button small accent to-top" onClick={() => body.current?.scrollTo({ top: 0 })}>
            ↑ Newest
          </button>
        )}
      </div>
    </section>
  );
}
