import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import { isEmpty } from "../model/filter.ts";
import { bytes, count, millis, percent, plural, rate, span as spanWords } from "../model/format.ts";
import { fold, isRest, type Folded } from "../model/fold.ts";
import { isLossy, worst } from "../model/policy.ts";
import type { Edge, Node, Snapshot } from "../model/types.ts";
import { WIDTHS, type Selection, type WidthBy } from "../model/url.ts";
import { edgeRate, errorPct, NOTABLE_ERRORS } from "../model/verdict.ts";
import { connection, failure, go, isLive, live, loading, retry, select, setFilter, snapshot, status, subject, view } from "../state.ts";
import type { GraphHandle } from "./graph-view.ts";
import { FitIcon, MinusIcon, PlusIcon, TidyIcon } from "./icons.tsx";
import { Notice, useSize } from "./parts.tsx";
import { PolicyNames } from "./policy.tsx";
import { SvgView } from "./svg-view.tsx";

const WIDTH_NAME: Record<WidthBy, string> = { requests: "requests", bytes: "bytes", connections: "connections" };

function Toolbar({ s, folded, handle }: { s: Snapshot; folded: number; handle: { current: GraphHandle | null } }): JSX.Element {
  const { table, width } = view.value;
  const tool = (label: string, icon: JSX.Element, act: (h: GraphHandle) => void): JSX.Element => (
    <button type="button" class="button small square" aria-label={label} title={label} onClick={() => handle.current && act(handle.current)}>
      {icon}
    </button>
  );
  return (
    <div class="toolbar">
      <div class="segmented" role="group" aria-label="Show as">
        <button type="button" aria-pressed={!table} onClick={() => go({ table: false })}>
          Map
        </button>
        <button type="button" aria-pressed={table} onClick={() => go({ table: true })}>
          Table
        </button>
      </div>
      {!table && (
        <label class="select">
          Width:
          <select value={width} onChange={(e) => go({ width: e.currentTarget.value as WidthBy })}>
            {WIDTHS.map((w) => (
              <option key={w} value={w}>
                {WIDTH_NAME[w]}
              </option>
            ))}
          </select>
        </label>
      )}
      <span class="count">
        {plural(s.nodes?.length ?? 0, "workload")} · {plural(s.edges?.length ?? 0, "connection")} · {plural(new Set(s.nodes?.map((n) => n.group)).size, "group")}
        {folded > 0 && !table && ` · ${count(folded)} share cards`}
      </span>
      {!table && (
        <span class="button-row end">
          {tool("Arrange anew", <TidyIcon />, (h) => h.arrange())}
          {tool("Zoom out (-)", <MinusIcon />, (h) => h.zoomBy(0.8))}
          {tool("Zoom in (+)", <PlusIcon />, (h) => h.zoomBy(1.25))}
          {tool("Fit (0)", <FitIcon />, (h) => h.fit())}
        </span>
      )}
    </div>
  );
}

function Legend(): JSX.Element {
  const line = (cls: string, word: string, extra?: JSX.Element): JSX.Element => (
    <span>
      <svg width="30" height="12" aria-hidden="true" class={`edge ${cls}`}>
        <path class="line" d="M1 6H22" stroke-width="2" />
        <polygon class="head" points="29,6 21,2.4 21,9.6" />
        {extra}
      </svg>
      {word}
    </span>
  );
  return (
    <div class="legend">
      {line("ok", "traffic")}
      {line("error", "failed exchanges")}
      {line("drop", "dropped", <path class="legend-cross" d="m9 3 6 6m0-6-6 6" />)}
      {line("audit", "would be denied")}
      <span class="hint">thicker is more</span>
    </div>
  );
}

const NodeRow = ({ n }: { n: Node }): JSX.Element => (
  <tr class={view.value.selection?.id === n.id ? "selected" : ""}>
    <td>{n.group}</td>
    <td>
      <button type="button" class="text-link" onClick={() => select({ type: "node", id: n.id })}>
        {n.name}
      </button>
    </td>
    <td>{n.kind}</td>
    <td class="num">{rate(n.rate)}</td>
    <td class="num">{millis(n.p95)}</td>
    <td class={`num ${n.errorPct >= NOTABLE_ERRORS ? "error" : ""}`}>{percent(n.errorPct)}</td>
    <td class={`num ${n.drops > 0 ? "drop" : ""}`}>{rate(n.drops)}</td>
    <td class="num">{bytes(n.bytesIn)}/s</td>
    <td class="num">{bytes(n.bytesOut)}/s</td>
  </tr>
);

const EdgeRow = ({ e }: { e: Edge }): JSX.Element => (
  <tr class={view.value.selection?.id === e.id ? "selected" : ""}>
    <td colSpan={2}>
      <button type="button" class="text-link" onClick={() => select({ type: "edge", id: e.id })}>
        {e.src} → {e.dst}
      </button>
    </td>
    <td>{e.protocols}</td>
    <td>
      {worst(e) && (
        <>
          {worst(e)!.verdict === "audit" ? "would deny: " : "denies: "}
          <PolicyNames d={worst(e)!} scope={{ edge: [e.id] }} />
        </>
      )}
    </td>
    <td class="num">{rate(edgeRate(e))}</td>
    <td class="num">{millis(e.p95)}</td>
    <td class={`num ${errorPct(e) >= NOTABLE_ERRORS ? "error" : ""}`}>{percent(errorPct(e))}</td>
    <td class={`num ${isLossy(e) ? "drop" : ""}`}>
      {rate(e.drops)} {e.dropReason}
    </td>
    <td class="num">
      {bytes(e.bytes)}/s
    </td>
  </tr>
);

/** The first `text` columns hold words, the others figures. */
function Head({ names, text }: { names: readonly (readonly [string, number?])[]; text: number }): JSX.Element {
  return (
    <thead>
      <tr>
        {names.map(([n, cols], i) => (
          <th key={n} scope="col" colSpan={cols ?? 1} class={i >= text ? "num" : ""}>
            {n}
          </th>
        ))}
      </tr>
    </thead>
  );
}

/** Rows that a table shows at once; a filter finds the others. */
const MAX_ROWS = 300;

const busiest = <T,>(list: readonly T[], rank: (x: T) => number): T[] => [...list].sort((a, b) => rank(b) - rank(a)).slice(0, MAX_ROWS);

const More = ({ n }: { n: number }): JSX.Element | null => (n > MAX_ROWS ? <p class="hint">{count(n - MAX_ROWS)} less busy ones are not listed: filter to find them.</p> : null);

/** The map's twin: the same facts as rows. */
function MapTable({ s }: { s: Snapshot }): JSX.Element {
  const byId = (a: { id: string }, b: { id: string }): number => (a.id < b.id ? -1 : 1);
  const nodes = busiest(s.nodes ?? [], (n) => n.rate + n.drops).sort(byId);
  const edges = busiest(s.edges ?? [], (e) => edgeRate(e) + e.drops).sort(byId);
  return (
    <div class="map-table" tabIndex={0} role="region" aria-label="The map as tables">
      <table class="grid">
        <caption>Workloads</caption>
        <Head names={[["group"], ["workload"], ["kind"], ["rate"], ["p95"], ["errors"], ["drops"], ["in"], ["out"]]} text={3} />
        <tbody>
          {nodes.map((n) => (
            <NodeRow key={n.id} n={n} />
          ))}
        </tbody>
      </table>
      <More n={s.nodes?.length ?? 0} />
      <table class="grid">
        <caption>Connections</caption>
        <Head names={[["from → to", 2], ["protocols"], ["policy"], ["rate"], ["p95"], ["errors"], ["drops"], ["bytes"]]} text={3} />
        <tbody>
          {edges.map((e) => (
            <EdgeRow key={e.id} e={e} />
          ))}
        </tbody>
      </table>
      <More n={s.edges?.length ?? 0} />
    </div>
  );
}

/** Cards that are not there yet, so that the page doesn't jump when they come. */
export function MapSkeleton(): JSX.Element {
  return (
    <div class="map-skeleton" role="status" aria-label="Loading the map">
      {[2, 4, 2].map((n, i) => (
        <div key={i} class="ghost-group">
          {Array.from({ length: n }, (_, k) => (
            <div key={k} class="ghost-card" />
          ))}
        </div>
      ))}
    </div>
  );
}

function NothingSeen(): JSX.Element {
  const r = view.value.range;
  if (!isEmpty(view.value.filter))
    return (
      <Notice title="Nothing matches this filter" sign="∅">
        <p>No traffic {r.mode === "live" ? `in the last ${spanWords(r.window * 1000)}` : "in this range"} fits all of its parts.</p>
        <p class="button-row">
          <button type="button" class="button accent" onClick={() => setFilter({})}>
            Clear the filter
          </button>
          {r.mode === "live" && r.window < 900 && (
            <button type="button" class="button" onClick={() => go({ range: { mode: "live", window: 900 } })}>
              Look at 15 minutes
            </button>
          )}
        </p>
      </Notice>
    );
  const nodes = live.value.ledger?.nodes ?? status.value.status?.nodes?.length ?? 0;
  if (!isLive.value)
    return (
      <Notice title="No traffic is stored for this range" sign="∅">
        <p>{status.value.status?.oldest ? `The oldest stored flow is from ${new Date(status.value.status.oldest).toLocaleString()}.` : "Nothing has been stored yet."}</p>
      </Notice>
    );
  return (
    <Notice title="Waiting for the first flow" sign="…">
      <p>{nodes ? `${plural(nodes, "collector is", "collectors are")} connected and no traffic was seen yet.` : "No collector is connected. Start one with parallax up, or parallax collector on each node."}</p>
    </Notice>
  );
}

export function Failed(): JSX.Element {
  return (
    <Notice title={isLive.value ? "The server refuses this view" : "History can't be read"} sign="!" tone="drop">
      <p>{failure.value}</p>
      <p class="button-row">
        <button type="button" class="button accent" onClick={retry}>
          Try again
        </button>
      </p>
    </Notice>
  );
}

/** The last picture: its cards stay, and the same data are not folded twice. */
let last: { subject: string; pinned: string | null; of: Snapshot; folded: Folded } | null = null;

function foldFor(s: Snapshot): Folded {
  const sel = view.value.selection;
  const pinned = sel?.type === "node" ? sel.id : null;
  if (last && last.of === s && last.pinned === pinned) return last.folded;
  const key = subject.value;
  const folded = fold(s, last?.subject === key ? last.folded.shown : new Set(), pinned);
  last = { subject: key, pinned, of: s, folded };
  return folded;
}

function Picture({ s, handle }: { s: Snapshot; handle: { current: GraphHandle | null } }): JSX.Element {
  const [ref, room] = useSize<HTMLDivElement>();
  // What stands for many opens the table, which lists each of them.
  const pick = (sel: Selection): void => (sel && sel.type !== "flow" && sel.id.split(">").some(isRest) ? go({ table: true, selection: null }) : select(sel));
  return (
    <div class="picture" ref={ref}>
      {room.w > 0 && room.h > 0 && <SvgView snapshot={s} subject={subject.value} selection={view.value.selection} width={view.value.width} room={room} onSelect={pick} handle={(h) => (handle.current = h)} />}
      <Legend />
    </div>
  );
}

export function MapPane(): JSX.Element {
  const handle = useRef<GraphHandle | null>(null);
  const s = snapshot.value;
  if (failure.value && (!s || isLive.value)) return <Failed />;
  if (!s || loading.value) return connection.value.state === "lost" && isLive.value ? <Notice title="Not connected" sign="!"><p>The map appears as soon as the server answers.</p></Notice> : <MapSkeleton />;
  if (!s.nodes?.length) return <NothingSeen />;
  const f = foldFor(s);
  return (
    <section class="map" aria-label="Service map">
      <Toolbar s={s} folded={f.folded} handle={handle} />
      {view.value.table ? (
        <MapTable s={s} />
      ) : (
        <Picture s={f.snapshot} handle={handle} />
      )}
    </section>
  );
}
