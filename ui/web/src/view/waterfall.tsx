import type { JSX } from "preact";
import { micros, plural } from "../model/format.ts";
import { exchanges, type Bar } from "../model/trace.ts";
import type { Flow } from "../model/types.ts";
import { showFlow, trace } from "../state.ts";

/** The exchanges of the trace that `flow` belongs to, each as a bar of the trace's time. */
export function Waterfall({ flow }: { flow: Flow }): JSX.Element {
  const x = trace.value?.id === flow.traceId ? trace.value : null;
  if (x?.error)
    return (
      <p class="hint" role="alert">
        {x.error}
      </p>
    );
  if (!x?.trace) return <div class="drawer-skeleton" role="status" aria-label="Loading" />;
  const t = x.trace;
  const rows = exchanges(t);
  return (
    <>
      <ol class="waterfall">
        {rows.map((r) => (
          <li key={r.flow.id}>
            <button type="button" aria-current={r.flow.id === flow.id ? "true" : undefined} title={`${r.flow.src} → ${r.flow.dst}: ${r.what} → ${r.status}`} onClick={() => showFlow(r.flow)}>
              <span class="waterfall-name" style={{ paddingLeft: `${r.depth * 10}px` }}>
                <b>{r.service.slice(r.service.indexOf("/") + 1)}</b> {!r.status.startsWith("2") && <span class={r.failed ? "error" : ""}>{r.status} </span>}
                <span class="mono">{r.what}</span>
              </span>
              <span class={`waterfall-bars${r.failed ? " error" : ""}`} aria-hidden="true">
                {r.client && <i style={at(r.client)} />}
                {r.server && <i class="work" style={at(r.server)} />}
              </span>
              <span class={`num${r.failed ? " error" : ""}`}>
                {r.failed && "! "}
                {micros(r.durationUs)}
              </span>
            </button>
          </li>
        ))}
      </ol>
      <p class="hint">
        {plural(rows.length, "exchange")} of {plural(t.services, "service")} in {micros(t.durationUs)}
        {t.truncated ? ", and more that are not shown" : ""}. Pale: the client waits; solid: the server takes its time.
      </p>
    </>
  );
}

const at = (b: Bar): { left: string; width: string } => ({ left: `${b.left}%`, width: `${b.width}%` });
