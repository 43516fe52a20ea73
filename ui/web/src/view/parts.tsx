import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ofFlow, type Said } from "../model/verdict.ts";
import type { Flow } from "../model/types.ts";
import { ChevronIcon } from "./icons.tsx";

/** Small parts that several screens share. */

export function VerdictMark({ said }: { said: Said }): JSX.Element {
  return (
    <span class={`verdict ${said.tone}`}>
      <span aria-hidden="true">{said.sign}</span> {said.word}
    </span>
  );
}

export const FlowVerdict = ({ flow }: { flow: Flow }): JSX.Element => <VerdictMark said={ofFlow(flow)} />;

/** A figure with its name above; a link to the flows behind it where there is one. */
export function Figure(p: { name: string; value: string; tone?: Said["tone"] | undefined; onClick?: (() => void) | undefined; title?: string }): JSX.Element {
  const body = (
    <>
      <span class="figure-name">{p.name}</span>
      <span class={`figure-value ${p.tone ?? ""}`}>{p.value}</span>
    </>
  );
  return p.onClick ? (
    <button type="button" class="figure link" onClick={p.onClick} title={p.title ?? `Flows behind ${p.name}`}>
      {body}
    </button>
  ) : (
    <span class="figure" title={p.title}>
      {body}
    </span>
  );
}

/** A page's state in words: empty, failed, waiting. */
export function Notice(p: { sign?: ComponentChildren; title: string; children?: ComponentChildren; tone?: "drop" | undefined; live?: boolean }): JSX.Element {
  return (
    <div class={`notice ${p.tone ?? ""}`} role={p.tone ? "alert" : "status"}>
      {p.sign && <div class="notice-sign">{p.sign}</div>}
      <h2>{p.title}</h2>
      <div class="notice-text">{p.children}</div>
    </div>
  );
}

/** A button that opens a panel under itself. Escape or a click elsewhere closes it. */
export function Menu(p: { label: ComponentChildren; name: string; class?: string; align?: "left" | "right"; children: (close: () => void) => ComponentChildren }): JSX.Element {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const away = (e: Event): void => {
      if (!root.current?.contains(e.target as globalThis.Node)) setOpen(false);
    };
    addEventListener("pointerdown", away);
    return () => removeEventListener("pointerdown", away);
  }, [open]);
  const close = (): void => {
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  const onKey = (e: KeyboardEvent): void => {
    if (e.key === "Escape" && open) {
      e.stopPropagation();
      close();
    }
  };
  return (
    <div class={`menu ${p.class ?? ""}`} ref={root} onKeyDown={onKey}>
      <button type="button" class="button" aria-expanded={open} aria-haspopup="true" aria-label={p.name} onClick={() => setOpen(!open)}>
        {p.label}
        <ChevronIcon />
      </button>
      {open && <div class={`menu-panel ${p.align ?? "left"}`}>{p.children(close)}</div>}
    </div>
  );
}

/** Width and height of an element as it changes. */
export function useSize<T extends HTMLElement>(): [{ current: T | null }, { w: number; h: number }] {
  const ref = useRef<T>(null);
  const [size, setSize] = useState({ w: 0, h: 0 });
  useEffect(() => {
    if (!ref.current) return;
    const o = new ResizeObserver(([e]) => e && setSize({ w: e.contentRect.width, h: e.contentRect.height }));
    o.observe(ref.current);
    return () => o.disconnect();
  }, []);
  return [ref, size];
}
