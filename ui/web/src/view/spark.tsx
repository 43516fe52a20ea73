import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { clock } from "../model/format.ts";

export interface Line {
  name: string;
  tone: "ok" | "error" | "drop" | "faint";
  /** Negative is unknown: the line has a gap there. */
  values: readonly number[];
}

const W = 320;
const H = 44;

function pathOf(values: readonly number[], top: number): string {
  let d = "";
  let pen = false;
  values.forEach((v, i) => {
    if (v < 0) {
      pen = false;
      return;
    }
    const x = values.length > 1 ? (i / (values.length - 1)) * W : W / 2;
    d += `${pen ? "L" : "M"}${x.toFixed(1)} ${(H - 2 - (v / top) * (H - 6)).toFixed(1)}`;
    pen = true;
  });
  return d;
}

/** A small chart of one quantity. The first line is filled; the value under the pointer is written above. */
export function Spark(p: { title: string; times: readonly number[]; lines: readonly Line[]; format: (v: number) => string; onClick?: () => void }): JSX.Element {
  const at = useSignal(-1);
  const top = Math.max(1e-9, ...p.lines.flatMap((l) => l.values));
  const n = p.times.length;
  const i = at.value >= 0 && at.value < n ? at.value : -1;
  const main = p.lines[0]!;
  const area = pathOf(main.values.map((v) => Math.max(0, v)), top);
  const move = (e: PointerEvent): void => {
    const r = (e.currentTarget as Element).getBoundingClientRect();
    at.value = Math.round(((e.clientX - r.left) / r.width) * (n - 1));
  };
  return (
    <figure class="spark">
      <figcaption>
        <span>{p.title}</span>
        <span class="spark-now">
          {i >= 0 ? `${clock(p.times[i]!)} · ` : ""}
          {p.lines.map((l) => (
            <span key={l.name} class={`key ${l.tone}`}>
              {l.name} {p.format(l.values[i >= 0 ? i : n - 1] ?? -1)}
            </span>
          ))}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${W} ${H}`} preserveAspectRatio="none" role="img" aria-label={`${p.title}: now ${p.format(main.values.at(-1) ?? -1)}, highest ${p.format(Math.max(...main.values, 0))}`} onPointerMove={move} onPointerLeave={() => (at.value = -1)} onClick={p.onClick}>
        <line class="axis" x1="0" x2={W} y1={H - 1} y2={H - 1} />
        {n > 1 && <path class={`spark-area ${main.tone}`} d={`${area}L${W} ${H - 1}L0 ${H - 1}Z`} />}
        {[...p.lines].reverse().map((l) => (
          <path key={l.name} class={`spark-line ${l.tone}`} d={pathOf(l.values, top)} />
        ))}
        {i >= 0 && <line class="cursor" x1={(i / (n - 1)) * W} x2={(i / (n - 1)) * W} y1="0" y2={H} />}
      </svg>
    </figure>
  );
}
