import { useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useRef } from "preact/hooks";
import { save, saved } from "../state.ts";

const MIN = 120;
const STEP = 24;

/** Two panes with a bar between them that a pointer drags or arrow keys move. The lower pane's height, at first `lower`, is remembered. */
export function Split(p: { name: string; lower?: string; top: ComponentChildren; bottom: ComponentChildren }): JSX.Element {
  const root = useRef<HTMLDivElement>(null);
  const height = useSignal(Number(saved("split." + p.name)) || 0);
  const set = (px: number): void => {
    const full = root.current?.clientHeight ?? 600;
    height.value = Math.round(Math.min(full - MIN, Math.max(MIN, px)));
    save("split." + p.name, String(height.value));
  };
  const now = (): number => root.current?.lastElementChild?.clientHeight ?? 240;
  const move = (e: PointerEvent): void => {
    if (!(e.currentTarget as Element).hasPointerCapture(e.pointerId)) return;
    set((root.current?.getBoundingClientRect().bottom ?? 0) - e.clientY);
  };
  const key = (e: KeyboardEvent): void => {
    if (e.key !== "ArrowUp" && e.key !== "ArrowDown") return;
    e.preventDefault();
    set(now() + (e.key === "ArrowUp" ? STEP : -STEP));
  };
  return (
    <div class="split" ref={root} style={{ "--lower": height.value ? `${height.value}px` : (p.lower ?? "32%") }}>
      <div class="split-top">{p.top}</div>
      <div
        class="split-bar" role="separator" aria-orientation="horizontal" aria-label="Height of the table" aria-valuenow={height.value || undefined} tabIndex={0}
        onPointerDown={(e) => e.currentTarget.setPointerCapture(e.pointerId)} onPointerMove={move} onKeyDown={key} onDblClick={() => ((height.value = 0), save("split." + p.name, null))}
      />
      <div class="split-bottom">{p.bottom}</div>
    </div>
  );
}
