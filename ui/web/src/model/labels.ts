import { overlaps, type Rect, type Vec } from "./geometry.ts";
import { along, type Route } from "./route.ts";

/** Texts on edges, only where they fit: never on a card, a heading or each other. */

export interface LabelWish {
  id: string;
  text: string;
  /** Higher goes first. */
  rank: number;
}

export interface PlacedLabel extends Vec {
  id: string;
  text: string;
  w: number;
}

export const LABEL_H = 18;
const FRACTIONS = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82];

/** Width of a label at 11 px, rounded up so that a changing digit doesn't change it. */
export function labelWidth(text: string): number {
  return Math.ceil((text.length * 6.3 + 10) / 6) * 6;
}

/** `before` holds where labels were: each stays there while it still fits. */
export function placeLabels(
  wishes: readonly LabelWish[], ways: ReadonlyMap<string, Route>, obstacles: readonly Rect[], before: ReadonlyMap<string, number>,
): { labels: PlacedLabel[]; fractions: Map<string, number> } {
  const labels: PlacedLabel[] = [];
  const fractions = new Map<string, number>();
  const taken: Rect[] = [];
  for (const wish of [...wishes].sort((a, b) => b.rank - a.rank || (a.id < b.id ? -1 : 1))) {
    const way = ways.get(wish.id);
    if (!way) continue;
    const w = labelWidth(wish.text);
    const old = before.get(wish.id);
    for (const t of old === undefined ? FRACTIONS : [old, ...FRACTIONS]) {
      const p = along(way, t);
      const box = { x: p.x - w / 2, y: p.y - LABEL_H / 2, w, h: LABEL_H };
      if (obstacles.some((o) => overlaps(box, o, 3)) || taken.some((o) => overlaps(box, o, 2))) continue;
      taken.push(box);
      fractions.set(wish.id, t);
      labels.push({ id: wish.id, text: wish.text, x: p.x, y: p.y, w });
      break;
    }
  }
  return { labels, fractions };
}
