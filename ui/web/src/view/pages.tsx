import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { getDetail } from "../api.ts";
import { count, millis, percent, plural, rate, when } from "../model/format.ts";
import { denialOf, isLossy, pathOf, said, sumPolicies } from "../model/policy.ts";
import { sumDrops, sumNames, type NameRow } from "../model/summary.ts";
import type { Edge, Ledger, NodeStatus } from "../model/types.ts";
import { errorPct, NOTABLE_ERRORS } from "../model/verdict.ts";
import { failure, filter, flowsBehind, isLive, loading, select, snapshot, span, status, view } from "../state.ts";
import { FlowsTable } from "./flows-table.tsx";
import { Failed } from "./map-pane.tsx";
import { Figure, Notice } from "./parts.tsx";
import { PolicyNames } from "./policy.tsx";
import { Split } from "./split.tsx";
import { Timeline } from "./timeline.tsx";

function Ends({ e }: { e: Edge }): JSX.Element {
  return (
    <button type="button" class="text-link" onClick={() => select({ type: "edge", id: e.id })}>
      {e.src} → {e.dst}
    </button>
  );
}

function DropsSummary(): JSX.Element {
  const edges = (snapshot.value?.edges ?? []).filter(isLossy).sort((a, b) => b.drops - a.drops);
  const policies = sumPolicies(edges);
  if (failure.value && (!snapshot.value || isLive.value)) return <Failed />;
  if (loading.value) return <div class="drawer-skeleton" role="status" aria-label="Loading" />;
  if (!edges.length)
    return (
      <Notice title="Nothing was dropped" sign="✓">
        <p>No drop in the range that is shown{view.value.filter.text || Object.keys(view.value.filter).length ? " fits the filter" : ""}.</p>
      </Notice>
    );
  return (
    <div class="summary">
      <section>
        <h2>Reasons</h2>
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">reason</th>
              <th scope="col" class="num">connections</th>
              <th scope="col" class="num">drops</th>
            </tr>
          </thead>
          <tbody>
            {sumDrops(edges).map((r) => (
              <tr key={r.reason}>
                <td>
                  <button type="button" class="text-link drop" disabled={r.reason === "unknown"} onClick={() => flowsBehind({ verdict: ["dropped"], reason: [r.reason] })}>
                    ✕ {r.reason}
                  </button>
                </td>
                <td class="num">{count(r.edges)}</td>
                <td class="num">{rate(r.drops)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {policies.length > 0 && (
        <section>
          <h2>Policies</h2>
          <table class="grid">
            <thead>
              <tr>
                <th scope="col">denied because of</th>
                <th scope="col" class="num">between</th>
                <th scope="col" class="num">connections</th>
                <th scope="col" class="num">packets</th>
              </tr>
            </thead>
            <tbody>
              {policies.map((r) => (
                <tr key={r.name}>
                  <td>
                    <button type="button" class="text-link drop" onClick={() => flowsBehind({ verdict: ["dropped"], policy: [pathOf(r.name)] })}>
                      ✕ {r.name}
                    </button>
                  </td>
                  <td class="num">{plural(r.edges, "pair")}</td>
                  <td class="num">{count(r.connections)}</td>
                  <td class="num">{count(r.packets)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <p class="hint">What several policies deny together is listed under each of them.</p>
        </section>
      )}
      <section class="wide">
        <h2>Between</h2>
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">from → to</th>
              <th scope="col">protocols</th>
              <th scope="col">most often because of</th>
              <th scope="col" class="num">drops</th>
            </tr>
          </thead>
          <tbody>
            {edges.map((e) => (
              <tr key={e.id}>
                <td>
                  <Ends e={e} />
                </td>
                <td>{e.protocols}</td>
                <td class="drop">
                  {denialOf(e) ? (
                    <>
                      {said("dropped")} <PolicyNames d={denialOf(e)!} scope={{ edge: [e.id] }} />
                    </>
                  ) : (
                    e.dropReason
                  )}
                </td>
                <td class="num">
                  <button type="button" class="text-link" onClick={() => flowsBehind({ edge: [e.id], verdict: ["dropped"] })}>
                    {rate(e.drops)}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </div>
  );
}

/** Servers whose names are read; each costs a query. */
const MAX_SERVERS = 4;
const NAMES_REFRESH = 10_000;
const NAMES_SPAN = 900_000;

function useNames(servers: readonly string[]): { rows: readonly NameRow[]; error: string } {
  const state = useSignal<{ rows: readonly NameRow[]; error: string }>({ rows: [], error: "" });
  const key = servers.join(" ");
  const fixed = isLive.value ? "" : `${span.value.from}-${span.value.to}`;
  const f = filter.value;
  useEffect(() => {
    if (!key) return;
    const abort = new AbortController();
    const read = async (): Promise<void> => {
      const now = Date.now();
      const over = isLive.value ? { from: now - NAMES_SPAN, to: now } : span.value;
      try {
        const all = await Promise.all(servers.map((s) => getDetail("node", s, f, over, abort.signal)));
        state.value = { rows: sumNames(all.flatMap((d) => d.top ?? [])), error: "" };
      } catch (e) {
        if (!abort.signal.aborted) state.value = { ...state.value, error: String(e instanceof Error ? e.message : e) };
      }
    };
    void read();
    const timer = setInterval(() => isLive.value && !document.hidden && void read(), NAMES_REFRESH);
    return () => {
      abort.abort();
      clearInterval(timer);
    };
  }, [key, fixed, f]);
  return state.value;
}

function DnsSummary(): JSX.Element {
  const edges = (snapshot.value?.edges ?? []).filter((e) => e.requests > 0).sort((a, b) => b.requests - a.requests);
  const servers = [...new Set(edges.map((e) => e.dst))].slice(0, MAX_SERVERS);
  const names = useNames(servers);
  if (failure.value && (!snapshot.value || isLive.value)) return <Failed />;
  if (loading.value) return <div class="drawer-skeleton" role="status" aria-label="Loading" />;
  if (!edges.length)
    return (
      <Notice title="No DNS exchange was seen" sign="∅">
        <p>Questions and answers over UDP and TCP appear here as they are seen on the wire.</p>
      </Notice>
    );
  return (
    <div class="summary">
      <section>
        <h2>Names</h2>
        {names.error && <p class="rows-note drop">! {names.error}</p>}
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">question</th>
              <th scope="col" class="num">rate</th>
              <th scope="col" class="num">p95</th>
              <th scope="col">answer</th>
            </tr>
          </thead>
          <tbody>
            {names.rows.map((r) => (
              <tr key={r.name}>
                <td class="mono">
                  <button type="button" class="text-link" onClick={() => flowsBehind({ protocol: ["dns"], text: r.name.slice(r.name.indexOf(" ") + 1) })}>
                    {r.name}
                  </button>
                </td>
                <td class="num">{rate(r.rate)}</td>
                <td class="num">{millis(r.p95)}</td>
                <td class={r.errorPct > 0 ? "error" : "ok"}>{r.errorPct > 0 ? `! ${percent(r.errorPct)} ${r.status}` : `✓ ${r.status}`}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <section>
        <h2>Who asks whom</h2>
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">client → server</th>
              <th scope="col" class="num">rate</th>
              <th scope="col" class="num">p95</th>
              <th scope="col" class="num">failed</th>
            </tr>
          </thead>
          <tbody>
            {edges.map((e) => (
              <tr key={e.id}>
                <td>
                  <Ends e={e} />
                </td>
                <td class="num">{rate(e.requests)}</td>
                <td class="num">{millis(e.p95)}</td>
                <td class={`num ${errorPct(e) >= NOTABLE_ERRORS ? "error" : ""}`}>
                  <button type="button" class="text-link" onClick={() => flowsBehind({ edge: [e.id], protocol: ["dns"], verdict: ["error"] })}>
                    {percent(errorPct(e))}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </div>
  );
}

export const DropsPage = (): JSX.Element => (
  <>
    <Timeline />
    <Split name="drops" lower="58%" top={<DropsSummary />} bottom={<FlowsTable title="Dropped" />} />
  </>
);

export const DnsPage = (): JSX.Element => (
  <>
    <Timeline />
    <Split name="dns" lower="50%" top={<DnsSummary />} bottom={<FlowsTable title="DNS exchanges" />} />
  </>
);

export const FlowsPage = (): JSX.Element => (
  <>
    <Timeline />
    <FlowsTable />
  </>
);

const STAGES: Record<string, string> = { ring: "full ring buffer in the kernel", queue: "full queue", decode: "record that can't be read" };

function LedgerCard({ l }: { l: Ledger }): JSX.Element {
  const lost = Object.entries(l.lost ?? {}).filter(([, n]) => n > 0);
  return (
    <section class="panel">
      <h2>Ledger</h2>
      <p class="hint">Every event that the kernel produced was delivered or is named here as lost.</p>
      <div class="figures">
        <Figure name="produced" value={count(l.produced)} />
        <Figure name="delivered" value={count(l.delivered)} />
        <Figure name="lost" value={count(lost.reduce((s, [, n]) => s + n, 0))} tone={lost.length ? "error" : undefined} />
        <Figure name="now" value={rate(l.flowsRate)} />
      </div>
      <p class={l.exact ? "ok" : "error"}>{l.exact ? "✓ exact: produced = delivered + lost" : "! not balanced yet: some events are still on their way, or a node left"}</p>
      {lost.length > 0 && (
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">lost in</th>
              <th scope="col" class="num">events</th>
            </tr>
          </thead>
          <tbody>
            {lost.map(([stage, n]) => (
              <tr key={stage}>
                <td>
                  {stage}
                  {STAGES[stage] && <span class="hint"> {STAGES[stage]}</span>}
                </td>
                <td class="num error">{count(n)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Collectors({ nodes }: { nodes: readonly NodeStatus[] }): JSX.Element {
  return (
    <section class="panel wide">
      <h2>Collectors</h2>
      {!nodes.length && <p class="rows-note">No collector has connected yet.</p>}
      {nodes.length > 0 && (
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">node</th>
              <th scope="col">state</th>
              <th scope="col">since</th>
              <th scope="col" class="num">flows</th>
              <th scope="col" class="num">delivered</th>
              <th scope="col" class="num">lost</th>
            </tr>
          </thead>
          <tbody>
            {nodes.map((n) => (
              <tr key={n.name}>
                <td>
                  <b>{n.name}</b>
                </td>
                <td class={n.state === "connected" ? "ok" : "error"}>{n.state === "connected" ? "✓ connected" : `! ${n.state}`}</td>
                <td>{when(n.since)}</td>
                <td class="num">{count(n.flows)}</td>
                <td class="num">{count(n.delivered)}</td>
                <td class={`num ${n.lost > 0 ? "error" : ""}`}>{count(n.lost)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

export function NodesPage(): JSX.Element {
  const { status: s, error } = status.value;
  if (!s)
    return error ? (
      <Notice title="The status can't be read" sign="!" tone="drop">
        <p>{error}</p>
      </Notice>
    ) : (
      <div class="drawer-skeleton" role="status" aria-label="Loading" />
    );
  return (
    <div class="nodes-page">
      {(s.error || error) && (
        <p class="banner inline" role="alert">
          ! {s.error || error}
        </p>
      )}
      <Collectors nodes={s.nodes ?? []} />
      <LedgerCard l={s.ledger} />
      <section class="panel">
        <h2>Storage</h2>
        <dl class="fields">
          <div>
            <dt>where</dt>
            <dd class="mono">{s.storage || "none"}</dd>
          </div>
          <div>
            <dt>oldest flow</dt>
            <dd>{s.oldest > 0 ? when(s.oldest) : "none yet"}</dd>
          </div>
          <div>
            <dt>version</dt>
            <dd class="mono">{s.version}</dd>
          </div>
        </dl>
      </section>
    </div>
  );
}
