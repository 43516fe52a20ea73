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
          {i > 0 && <span class="path-gap">{gap(flow, seen[i - 1]!, h)}</span>}
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

/** Between two points of one node. Clocks of two nodes may differ by more than the way takes: then the sign is wrong, and the time says nothing. */
function gap(flow: Flow, a: Hop, b: Hop): string {
  // A record of an exchange is made when its response passes, which comes from the other side.
  const d = flow.kind === "l7" ? a.time - b.time : b.time - a.time;
  return d >= 0 ? micros(d) : "";
}
