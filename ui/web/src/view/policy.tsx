import type { JSX } from "preact";
import { clock, plural } from "../model/format.ts";
import { cut, pathOf, said as words } from "../model/policy.ts";
import type { Decision, Filter, Flow } from "../model/types.ts";
import { ofDecision } from "../model/verdict.ts";
import { flowsBehind } from "../state.ts";
import { VerdictMark } from "./parts.tsx";

/** The flows that policies decided on in one way. */
const behind = (d: { verdict: string; names: readonly string[] }, scope: Filter): void => flowsBehind({ ...scope, policy: d.names.map(pathOf), verdict: [d.verdict] });

function PolicyLink({ name, verdict, scope }: { name: string; verdict: string; scope: Filter }): JSX.Element {
  return (
    <button type="button" class="text-link policy-name" title={`Flows that ${name} decided on`} onClick={() => behind({ verdict, names: [name] }, scope)}>
      {name}
    </button>
  );
}

/** "NetworkPolicy a/b and NetworkPolicy c/d", each a link to what it decided. */
export function PolicyNames({ d, scope }: { d: { verdict: string; names: readonly string[] }; scope: Filter }): JSX.Element {
  return (
    <>
      {d.names.map((n, i) => (
        <span key={n}>
          {i > 0 && (i === d.names.length - 1 ? " and " : ", ")}
          <PolicyLink name={n} verdict={d.verdict} scope={scope} />
        </span>
      ))}
    </>
  );
}

function Counts({ d, scope }: { d: Decision; scope: Filter }): JSX.Element {
  const verb = d.verdict === "dropped" ? "denied" : d.verdict === "audit" ? "would have been denied" : "allowed";
  return (
    <button type="button" class="text-link hint" onClick={() => behind(d, scope)} title="The flows behind these figures">
      {d.packets > 0 && `${plural(d.packets, "packet")} denied · `}
      {d.connections > 0 && `${plural(d.connections, "connection")} ${verb} · `}
      last {clock(d.lastSeen)}
    </button>
  );
}

/** What policies decided on a node or edge, with the flows behind each. */
export function Decisions({ list, scope }: { list: readonly Decision[]; scope: Filter }): JSX.Element | null {
  if (!list.length) return null;
  return (
    <section class="drawer-section">
      <h3>Decided by policy</h3>
      {list.map((d) => {
        const mark = ofDecision(d.verdict);
        return (
          <div key={d.verdict + d.names.join()} class={`policy-card ${mark.tone}`}>
            <p>
              <VerdictMark said={mark} />
            </p>
            <p>
              {words(d.verdict)} <PolicyNames d={d} scope={scope} />
            </p>
            <p>
              <Counts d={d} scope={scope} />
            </p>
          </div>
        );
      })}
    </section>
  );
}

/** What policy said of the connection of one flow. */
export function FlowPolicy({ f }: { f: Flow }): JSX.Element | null {
  const p = f.policy;
  if (!p) return null;
  const mark = ofDecision(p.verdict);
  const said = cut(p.text, p.policies ?? []);
  const unsaid = (p.policies ?? []).filter((n) => !said.some((x) => x.name && x.text === n));
  return (
    <section class="drawer-section">
      <h3>Policy</h3>
      <div class={`policy-card ${mark.tone}`}>
        <p>
          <VerdictMark said={mark} />
        </p>
        {p.text && <p>{said.map((x, i) => (x.name ? <PolicyLink key={i} name={x.text} verdict={p.verdict} scope={{}} /> : x.text))}</p>}
        {unsaid.length > 0 && (
          <p>
            <PolicyNames d={{ verdict: p.verdict, names: unsaid }} scope={{}} />
          </p>
        )}
        {p.rule >= 0 && (
          <p class="hint">
            rule {p.rule + 1} of its section{p.match !== "none" && `, by ${p.match}`}
          </p>
        )}
      </div>
    </section>
  );
}
