/** Sizes of the map in its own units: one unit is one CSS pixel at zoom 1. */

export interface Vec {
  x: number;
  y: number;
}

export interface Rect extends Vec {
  w: number;
  h: number;
}

export const CARD = { w: 168, h: 84 } as const;
/** Between cards of a group: wide enough for a label like "164/s" beside, and one line of text above. */
export const GAP = { x: 72, y: 42 } as const;
export const GROUP_PAD = 14;
export const GROUP_HEAD = 34;
/** Between the boxes of two groups. */
export const GROUP_GAP = { x: 68, y: 18 } as const;
export const PITCH = { x: CARD.w + GAP.x, y: CARD.h + GAP.y } as const;

export function overlaps(a: Rect, b: Rect, margin = 0): boolean {
  return a.x < b.x + b.w + margin && b.x < a.x + a.w + margin && a.y < b.y + b.h + margin && b.y < a.y + a.h + margin;
}

export function union(rects: Iterable<Rect>): Rect {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const r of rects) {
    x0 = Math.min(x0, r.x);
    y0 = Math.min(y0, r.y);
    x1 = Math.max(x1, r.x + r.w);
    y1 = Math.max(y1, r.y + r.h);
  }
  return x1 < x0 ? { x: 0, y: 0, w: 0, h: 0 } : { x: x0, y: y0, w: x1 - x0, h: y1 - y0 };
}
