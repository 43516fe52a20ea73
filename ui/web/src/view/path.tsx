import type { JSX } from "preact";
import { micros } from "../model/format.ts";
import { hops } from "../model/path.ts";
import type { Flow, Hop } from "../model/types.ts";

/** The observation points that a flow passed, in order, with the time spent between them. */
export function Path({ flow }: { flow: Flow }): JSX.Element {
  const seen = hops(flow);
  const lost = flow.verdict === "dropped";
  return (
    <ol class="path">
      {seen.map((h, i) => (
        <li key={`${h.node}${h.point}${h.time}`} class={lost && i === seen.length - 1 ? "lost" : ""}>
          {i > 0 && <span class="path-gap">{gap(seen[i - 1]!, h)}</span>}
          <span class="path-dot" aria-hidden="true">
            {lost && i === seen.length - 1 ? "✕" : ""}
          </span>
          <b>{h.point}</b>
          <span class="hint">{h.node}</span>
        </li>
      ))}
    </ol>
  );
}

/** Clocks of two nodes may differ by more than the way takes: a negative difference says nothing. */
function gap(a: Hop, b: Hop): string {
  const d = b.time - a.time;
  return d >= 0 ? micros(d) : "";
}
