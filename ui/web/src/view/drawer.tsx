import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { bytes, byteRate, clockMicros, count, micros, millis, percent, plural, protocol, rate, when } from "../model/format.ts";
import { DENIED, pathsOf } from "../model/policy.ts";
import type { Decision, Detail, Edge, Filter, Flow, Node } from "../model/types.ts";
import { edgeRate, errorPct, NOTABLE_ERRORS, ofFlow } from "../model/verdict.ts";
import { detail, flowsBehind, openFlow, select, showFlow, snapshot, view } from "../state.ts";
import { CloseIcon } from "./icons.tsx";
import { Figure, FlowVerdict } from "./parts.tsx";
import { Path } from "./path.tsx";
import { Decisions, FlowPolicy } from "./policy.tsx";
import { Spark } from "./spark.tsx";
import { Waterfall } from "./waterfall.tsx";

const failing = (pct: number): "error" | undefined => (pct >= NOTABLE_ERRORS ? "error" : undefined);

function Section(p: { title: string; children: ComponentChildren }): JSX.Element {
  return (
    <section class="drawer-section">
      <h3>{p.title}</h3>
      {p.children}
    </section>
  );
}

function Charts({ d, scope }: { d: Detail; scope: Filter }): JSX.Element | null {
  const s = d.series ?? [];
  if (s.length < 2) return null;
  const times = s.map((p) => p.time);
  const answered = s.some((p) => p.p95 >= 0);
  return (
    <>
      {answered && (
        <Spark title="Latency" times={times} format={millis} lines={[{ name: "p95", tone: "ok", values: s.map((p) => p.p95) }, { name: "p50", tone: "faint", values: s.map((p) => p.p50) }, { name: "p99", tone: "faint", values: s.map((p) => p.p99) }]} />
      )}
      {s.some((p) => p.requests > 0) && <Spark title="Requests" times={times} format={rate} lines={[{ name: "", tone: "ok", values: s.map((p) => p.requests) }]} />}
      {s.some((p) => p.errors > 0) && <Spark title="Failed exchanges" times={times} format={rate} onClick={() => flowsBehind({ ...scope, verdict: ["error"] })} lines={[{ name: "", tone: "error", values: s.map((p) => p.errors) }]} />}
      {s.some((p) => p.drops > 0) && <Spark title="Drops" times={times} format={rate} onClick={() => flowsBehind({ ...scope, verdict: ["dropped"] })} lines={[{ name: "", tone: "drop", values: s.map((p) => p.drops) }]} />}
      {!answered && s.some((p) => p.bytes > 0) && <Spark title="Bytes" times={times} format={byteRate} lines={[{ name: "", tone: "ok", values: s.map((p) => p.bytes) }]} />}
    </>
  );
}

function Operations({ d, scope }: { d: Detail; scope: Filter }): JSX.Element | null {
  const top = d.top ?? [];
  if (!top.length) return null;
  return (
    <Section title="Operations">
      <table class="grid small">
        <thead>
          <tr>
            <th scope="col">operation</th>
            <th scope="col" class="num">rate</th>
            <th scope="col" class="num">p95</th>
            <th scope="col">status</th>
          </tr>
        </thead>
        <tbody>
          {top.slice(0, 12).map((t) => (
            <tr key={t.protocol + t.name}>
              <td class="mono">
                <button type="button" class="text-link" title={`Flows of ${t.name}`} onClick={() => flowsBehind({ ...scope, protocol: [t.protocol.toLowerCase()], text: resourceOf(t.name) })}>
                  {t.name}
                </button>
              </td>
              <td class="num">{rate(t.rate)}</td>
              <td class="num">{millis(t.p95)}</td>
              <td class={t.errorPct > 0 ? "error" : "ok"}>{t.errorPct > 0 ? `${percent(t.errorPct)} ${t.status}` : t.status}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

/** The part of an operation that the text filter finds: "GET /cart/{id}" -> "/cart/". */
function resourceOf(name: string): string {
  return name.slice(name.indexOf(" ") + 1).split("{")[0]!;
}

function Drops({ d, scope }: { d: Detail; scope: Filter }): JSX.Element | null {
  // What policies denied is said by their names.
  const named = d.policies?.some((p) => p.verdict === "dropped");
  const drops = (d.drops ?? []).filter((r) => r.reason !== DENIED || !named);
  if (!drops.length) return null;
  return (
    <Section title="Dropped">
      {drops.map((r) => (
        <div key={r.reason + r.symbol} class="drop-card">
          <button type="button" class="drop-reason" onClick={() => flowsBehind({ ...scope, reason: [r.reason] })}>
            <span aria-hidden="true">✕</span> <b>{r.reason}</b> <span class="num">{count(r.count)}</span>
          </button>
          {r.symbol && (
            <p class="hint">
              in <code>{r.symbol}</code>
            </p>
          )}
          {r.hint && <p>{r.hint}</p>}
        </div>
      ))}
    </Section>
  );
}

function Slow({ flows }: { flows: readonly Flow[] | null }): JSX.Element | null {
  if (!flows?.length) return null;
  return (
    <Section title="Slowest exchanges">
      <ul class="slow">
        {flows.slice(0, 6).map((f) => (
          <li key={f.id}>
            <button type="button" onClick={() => showFlow(f)}>
              <span class="num">{micros(f.latencyUs)}</span>
              <span class="mono">{f.what.replaceAll("->", "→")}</span>
              {ofFlow(f).tone !== "ok" && <FlowVerdict flow={f} />}
            </button>
          </li>
        ))}
      </ul>
    </Section>
  );
}

/** `policies` are those of the range that is shown, until those of the whole explanation are read. */
function Explanation({ id, scope, policies, children }: { id: string; scope: Filter; policies?: readonly Decision[] | null | undefined; children?: ComponentChildren }): JSX.Element {
  const x = detail.value?.id === id ? detail.value : null;
  const d = x?.detail;
  const longest = [...(d?.slow ?? []), ...(d?.recent ?? [])].reduce<Flow | null>((best, f) => ((f.path?.length ?? 0) > (best?.path?.length ?? 0) ? f : best), null);
  return (
    <>
      {x?.error && (
        <p class="rows-note drop" role="alert">
          ! {x.error}
        </p>
      )}
      {!d && !x?.error && <div class="drawer-skeleton" role="status" aria-label="Loading" />}
      {d && <Charts d={d} scope={scope} />}
      <Decisions list={d?.policies ?? policies ?? []} scope={scope} />
      {children}
      {d && <Drops d={d} scope={scope} />}
      {longest && (
        <Section title="Path of one flow">
          <Path flow={longest} />
          <button type="button" class="text-link hint" onClick={() => showFlow(longest)}>
            {longest.what.replaceAll("->", "→")} at {clockMicros(longest.time)}
          </button>
        </Section>
      )}
      {d && <Operations d={d} scope={scope} />}
      <Slow flows={d?.slow ?? null} />
      <p class="drawer-all">
        <button type="button" class="button" onClick={() => flowsBehind(scope)}>
          All flows
        </button>
      </p>
    </>
  );
}

function Neighbours({ title, edges, end }: { title: string; edges: readonly Edge[]; end: "src" | "dst" }): JSX.Element | null {
  if (!edges.length) return null;
  return (
    <Section title={title}>
      <ul class="neighbours">
        {[...edges]
          .sort((a, b) => edgeRate(b) - edgeRate(a))
          .slice(0, 12)
          .map((e) => (
            <li key={e.id}>
              <button type="button" onClick={() => select({ type: "edge", id: e.id })}>
                <span class="name">{e[end]}</span>
                <span class="hint">{e.protocols}</span>
                {e.drops > 0 ? <span class="drop">✕ {rate(e.drops)}</span> : errorPct(e) >= NOTABLE_ERRORS ? <span class="error">! {percent(errorPct(e))}</span> : null}
                <span class="num">{rate(edgeRate(e))}</span>
              </button>
            </li>
          ))}
      </ul>
    </Section>
  );
}

function NodeDrawer({ id }: { id: string }): JSX.Element {
  const s = snapshot.value;
  const n: Node | undefined = s?.nodes?.find((x) => x.id === id);
  const scope: Filter = { workload: [id] };
  const edges = s?.edges ?? [];
  return (
    <>
      {n ? (
        <div class="figures">
          <Figure name={n.rateUnit === "conn/s" ? "connections" : "requests"} value={rate(n.rate)} onClick={() => flowsBehind(scope)} />
          <Figure name="p95" value={millis(n.p95)} onClick={() => flowsBehind(scope)} />
          <Figure name="errors" value={percent(n.errorPct)} tone={failing(n.errorPct)} onClick={() => flowsBehind({ ...scope, verdict: ["error"] })} />
          <Figure name="drops" value={rate(n.drops)} tone={n.drops > 0 ? "drop" : undefined} onClick={() => flowsBehind({ ...scope, verdict: ["dropped"] })} />
          <Figure name="in" value={byteRate(n.bytesIn)} onClick={() => flowsBehind(scope)} />
          <Figure name="out" value={byteRate(n.bytesOut)} onClick={() => flowsBehind(scope)} />
        </div>
      ) : (
        <p class="rows-note">Not seen in the range that is shown.</p>
      )}
      <Explanation id={id} scope={scope}>
        <Neighbours title="Called by" edges={edges.filter((e) => e.dst === id && e.src !== id)} end="src" />
        <Neighbours title="Calls" edges={edges.filter((e) => e.src === id && e.dst !== id)} end="dst" />
      </Explanation>
    </>
  );
}

function EdgeDrawer({ id }: { id: string }): JSX.Element {
  const e = snapshot.value?.edges?.find((x) => x.id === id);
  const scope: Filter = { edge: [id] };
  return (
    <>
      {e ? (
        <div class="figures">
          <Figure name={e.requests > 0 ? "requests" : "connections"} value={rate(edgeRate(e))} onClick={() => flowsBehind(scope)} />
          <Figure name="p95" value={millis(e.p95)} onClick={() => flowsBehind(scope)} />
          <Figure name="errors" value={percent(errorPct(e))} tone={failing(errorPct(e))} onClick={() => flowsBehind({ ...scope, verdict: ["error"] })} />
          <Figure name="drops" value={rate(e.drops)} tone={e.drops > 0 ? "drop" : undefined} onClick={() => flowsBehind({ ...scope, verdict: ["dropped"] })} />
          <Figure name="RTT" value={millis(e.rtt)} onClick={() => flowsBehind({ ...scope, protocol: ["tcp"] })} title="Mean TCP handshake" />
          <Figure name="bytes" value={byteRate(e.bytes)} onClick={() => flowsBehind(scope)} />
        </div>
      ) : (
        <p class="rows-note">Not seen in the range that is shown.</p>
      )}
      <Explanation id={id} scope={scope} policies={e?.policies} />
    </>
  );
}

function FlowDrawer({ f }: { f: Flow }): JSX.Element {
  const edge = `${f.src}>${f.dst}`;
  const field = (name: string, value: ComponentChildren, mono = false): JSX.Element | null =>
    value === "" || value === undefined || value === null ? null : (
      <div>
        <dt>{name}</dt>
        <dd class={mono ? "mono" : ""}>{value}</dd>
      </div>
    );
  return (
    <>
      <p class="flow-what mono">{f.what.replaceAll("->", "→")}</p>
      <p>
        <FlowVerdict flow={f} />
      </p>
      <div class="figures">
        <Figure name="latency" value={micros(f.latencyUs)} />
        <Figure name="bytes" value={bytes(f.bytes)} />
        <Figure name="packets" value={count(f.packets)} />
      </div>
      <FlowPolicy f={f} />
      {(f.path?.length ?? 0) > 0 && (
        <Section title="Path">
          <Path flow={f} />
        </Section>
      )}
      {f.traceId && (
        <Section title="Trace">
          <Waterfall flow={f} />
        </Section>
      )}
      <Section title="Fields">
        <dl class="fields">
          {field("time", `${when(f.time / 1000).replace(/\d\d:\d\d:\d\d$/, "")}${clockMicros(f.time)}`, true)}
          {field("source", <NodeLink id={f.src} name={f.srcName} />)}
          {field("", f.srcAddr, true)}
          {field("destination", <NodeLink id={f.dst} name={f.dstName} />)}
          {field("", f.dstAddr, true)}
          {field("record", f.kind)}
          {field("protocol", protocol(f.protocol))}
          {field("policy match", f.policy && f.policy.match !== "none" ? f.policy.match : "")}
          {field("drop reason", f.reason, true)}
          {field("kernel function", f.symbol, true)}
          {field("seen on", `${f.node}, ${f.point}`)}
          {field("trace", f.traceId, true)}
          {field("id", f.id, true)}
        </dl>
      </Section>
      <p class="drawer-all button-row">
        <button type="button" class="button" onClick={() => select({ type: "edge", id: edge })}>
          This connection
        </button>
        <button type="button" class="button" onClick={() => flowsBehind({ edge: [edge], ...(f.reason ? { reason: [f.reason] } : {}), ...(f.policy?.policies?.length ? { policy: pathsOf(f) } : {}) })}>
          Flows like this
        </button>
      </p>
    </>
  );
}

const NodeLink = ({ id, name }: { id: string; name: string }): JSX.Element => (
  <button type="button" class="text-link" onClick={() => select({ type: "node", id })}>
    {name || id}
  </button>
);

function heading(): { kind: string; title: string } | null {
  const sel = view.value.selection;
  if (!sel) return null;
  if (sel.type === "flow") return openFlow.value ? { kind: `Flow · ${protocol(openFlow.value.protocol)}`, title: `${openFlow.value.src} → ${openFlow.value.dst}` } : null;
  if (sel.type === "edge") {
    const e = snapshot.value?.edges?.find((x) => x.id === sel.id);
    const short = (id: string): string => id.slice(id.indexOf("/") + 1);
    const [a = "", b = ""] = sel.id.split(">");
    return { kind: ["Connection", e?.protocols].filter(Boolean).join(" · "), title: `${short(a)} → ${short(b)}` };
  }
  const n = snapshot.value?.nodes?.find((x) => x.id === sel.id);
  const cut = sel.id.indexOf("/");
  const pods = n && n.pods > 0 ? ` · ${plural(n.pods, "pod")}` : "";
  return { kind: `${n?.kind ?? "Workload"} in ${sel.id.slice(0, cut)}${pods}`, title: sel.id.slice(cut + 1) };
}

export function Drawer(): JSX.Element | null {
  const sel = view.value.selection;
  const h = heading();
  const root = useRef<HTMLElement>(null);
  useEffect(() => {
    const onKey = (e: KeyboardEvent): void => {
      if (e.key === "Escape" && view.value.selection) select(null);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  useEffect(() => {
    root.current?.scrollTo({ top: 0 });
  }, [sel?.id]);
  if (!sel || !h) return null;
  return (
    <aside class="drawer" ref={root} aria-label={h.title}>
      <header>
        <div>
          <p class="drawer-kind">{h.kind}</p>
          <h2>{h.title}</h2>
        </div>
        <button type="button" class="button square quiet" aria-label="Close (Escape)" title="Close (Escape)" onClick={() => select(null)}>
          <CloseIcon />
        </button>
      </header>
      {sel.type === "node" ? <NodeDrawer id={sel.id} /> : sel.type === "edge" ? <EdgeDrawer id={sel.id} /> : openFlow.value && <FlowDrawer f={openFlow.value} />}
    </aside>
  );
}
