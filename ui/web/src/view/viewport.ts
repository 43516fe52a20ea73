import { useEffect, useRef } from "preact/hooks";
import type { Rect, Vec } from "../model/geometry.ts";

/** Pan and zoom of the map, applied to the element directly: a drag renders nothing. */

const MIN_ZOOM = 0.15;
const MAX_ZOOM = 2.5;
/** Fitting never enlarges: text stays at its size. */
const FIT_ZOOM = 1;
/** Below it a card's figures can't be read: it shows its name alone, larger. */
const FAR = 0.62;
const DRAG_START = 4;

export interface Inset {
  top: number;
  right: number;
  bottom: number;
  left: number;
}

export class Viewport {
  private at = { x: 0, y: 0, k: 1 };
  private drag: { from: Vec; start: Vec; moved: boolean; id: number } | null = null;
  /** True once a person has moved it: then data no longer do. */
  touched = false;
  private fitted = false;
  private box: HTMLElement | null = null;
  private world: HTMLElement | null = null;

  attach(box: HTMLElement, world: HTMLElement): () => void {
    [this.box, this.world] = [box, world];
    const wheel = (e: WheelEvent): void => {
      e.preventDefault();
      if (e.shiftKey) return this.moveBy(-e.deltaY - e.deltaX, 0);
      const r = box.getBoundingClientRect();
      // Trackpads send many small steps, wheels few large ones.
      this.zoomAt(Math.exp(-Math.max(-80, Math.min(80, e.deltaY)) * 0.003), { x: e.clientX - r.left, y: e.clientY - r.top });
    };
    box.addEventListener("wheel", wheel, { passive: false });
    this.apply();
    return () => box.removeEventListener("wheel", wheel);
  }

  private apply(): void {
    if (!this.world || !this.box) return;
    const { x, y, k } = this.at;
    this.world.style.transform = `translate(${x}px,${y}px) scale(${k})`;
    this.world.classList.toggle("far", k < FAR);
  }

  private take(): void {
    this.touched = true;
    this.world?.classList.remove("fitting");
  }

  moveBy(dx: number, dy: number): void {
    this.take();
    this.at = { ...this.at, x: this.at.x + dx, y: this.at.y + dy };
    this.apply();
  }

  zoomAt(factor: number, p: Vec): void {
    this.take();
    const k = Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, this.at.k * factor));
    const f = k / this.at.k;
    this.at = { x: p.x - (p.x - this.at.x) * f, y: p.y - (p.y - this.at.y) * f, k };
    this.apply();
  }

  zoomBy(factor: number): void {
    if (this.box) this.zoomAt(factor, { x: this.box.clientWidth / 2, y: this.box.clientHeight / 2 });
  }

  fit(bounds: Rect, inset: Inset): void {
    if (!this.box || !this.world || bounds.w <= 0) return;
    const w = this.box.clientWidth - inset.left - inset.right;
    const h = this.box.clientHeight - inset.top - inset.bottom;
    if (w <= 0 || h <= 0) return;
    const k = Math.max(MIN_ZOOM, Math.min(FIT_ZOOM, w / bounds.w, h / bounds.h));
    this.at = { k, x: Math.round(inset.left + (w - bounds.w * k) / 2 - bounds.x * k), y: Math.round(inset.top + (h - bounds.h * k) / 2 - bounds.y * k) };
    this.touched = false;
    // The first fit is a placement, not a movement.
    this.world.classList.toggle("fitting", this.fitted);
    this.fitted = true;
    this.apply();
  }

  /** Moves just as far as is needed to see a rectangle. */
  reveal(r: Rect): void {
    if (!this.box) return;
    const { x, y, k } = this.at;
    const shift = (lo: number, hi: number, size: number): number => (lo < 16 ? 16 - lo : hi > size - 16 ? size - 16 - hi : 0);
    const dx = shift(x + r.x * k, x + (r.x + r.w) * k, this.box.clientWidth);
    const dy = shift(y + r.y * k, y + (r.y + r.h) * k, this.box.clientHeight);
    if (dx || dy) this.moveBy(dx, dy);
  }

  readonly down = (e: PointerEvent): void => {
    if (e.button !== 0) return;
    this.drag = { from: { x: e.clientX, y: e.clientY }, start: { ...this.at }, moved: false, id: e.pointerId };
  };

  readonly move = (e: PointerEvent): void => {
    const d = this.drag;
    if (!d || d.id !== e.pointerId) return;
    const [dx, dy] = [e.clientX - d.from.x, e.clientY - d.from.y];
    if (!d.moved && Math.hypot(dx, dy) < DRAG_START) return;
    if (!d.moved) this.box?.setPointerCapture(e.pointerId);
    d.moved = true;
    this.take();
    this.at = { ...this.at, x: d.start.x + dx, y: d.start.y + dy };
    this.apply();
  };

  /** Returns whether it was a drag: then it is no click. */
  readonly up = (): boolean => {
    const moved = this.drag?.moved ?? false;
    this.drag = null;
    return moved;
  };
}

/** A viewport for the two elements, kept over renders. */
export function useViewport(): { port: Viewport; box: { current: HTMLDivElement | null }; world: { current: HTMLDivElement | null } } {
  const port = useRef<Viewport | null>(null);
  port.current ??= new Viewport();
  const box = useRef<HTMLDivElement>(null);
  const world = useRef<HTMLDivElement>(null);
  useEffect(() => (box.current && world.current ? port.current!.attach(box.current, world.current) : undefined), []);
  return { port: port.current, box, world };
}
