import { overlaps, type Rect, type Vec } from "./geometry.ts";
import { along, type Route } from "./route.ts";

/** Texts on edges, only where they fit: never on a card, a heading or each other. */

export interface LabelWish {
  id: string;
  text: string;
  /** Higher goes first. */
  rank: number;
  /** Shown also where it hides a piece of another line. */
  must?: boolean;
  /** Forms to take where there is no room for the text on its way or close by, longest first. */
  shorter?: readonly string[];
}

export interface PlacedLabel extends Vec {
  id: string;
  text: string;
  w: number;
  /** 0: the whole text, else that of the shorter forms. */
  form: number;
}

export const LABEL_H = 18;
const FRACTIONS = [0.5, 0.44, 0.56, 0.38, 0.62, 0.32, 0.68, 0.26, 0.74, 0.2, 0.8, 0.14, 0.86];

/** Width of a label at 11 px, rounded up so that a changing digit doesn't change it. */
export function labelWidth(text: string): number {
  return Math.ceil((text.length * 6.3 + 10) / 6) * 6;
}

/** Whether the way passes through the box. */
export function passes(way: Route, box: Rect): boolean {
  const b = way.box;
  if (!overlaps(b, box, 0.5)) return false;
  const s = way.samples;
  for (let i = 1; i < s.length; i++) if (cuts(s[i - 1]!, s[i]!, box)) return true;
  return false;
}

/** Segment against box, by clipping (Liang and Barsky 1984). */
function cuts(a: Vec, b: Vec, r: Rect): boolean {
  let lo = 0;
  let hi = 1;
  const clip = (p: number, q: number): boolean => {
    if (p === 0) return q >= 0;
    const t = q / p;
    if (p < 0) lo = Math.max(lo, t);
    else hi = Math.min(hi, t);
    return lo <= hi;
  };
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  return clip(-dx, a.x - r.x) && clip(dx, r.x + r.w - a.x) && clip(-dy, a.y - r.y) && clip(dy, r.y + r.h - a.y);
}

export interface Obstacles {
  rects: readonly Rect[];
  /** Ways that are drawn; a label hides none but its own. */
  ways: ReadonlyMap<string, Route>;
}

const around = (p: Vec, w: number, h: number): Rect => ({ x: p.x - w / 2, y: p.y - h / 2, w, h });

function hidesOther(box: Rect, id: string, ways: ReadonlyMap<string, Route>): boolean {
  for (const [other, way] of ways) if (other !== id && passes(way, box)) return true;
  return false;
}

/** Size of the cross where drops are seen. */
const CROSS = 18;
const CROSS_FRACTIONS = [0.8, 0.74, 0.86, 0.68, 0.62, 0.9, 0.55];

/** Where on its way the cross of each lossy edge stands: near the destination, on no other line or cross if that can be. */
export function placeCrosses(ids: readonly string[], o: Obstacles): Map<string, Vec> {
  const out = new Map<string, Vec>();
  const taken: Rect[] = [];
  for (const id of [...ids].sort()) {
    const way = o.ways.get(id);
    if (!way) continue;
    const fits = CROSS_FRACTIONS.map((t) => along(way, t)).filter((p) => {
      const box = around(p, CROSS, CROSS);
      return !taken.some((t) => overlaps(box, t, 2)) && !o.rects.some((r) => overlaps(box, r));
    });
    const p = fits.find((v) => !hidesOther(around(v, CROSS, CROSS), id, o.ways)) ?? fits[0] ?? along(way, CROSS_FRACTIONS[0]!);
    taken.push(around(p, CROSS, CROSS));
    out.set(id, p);
  }
  return out;
}

/** Where a label is: at a part of its way, moved from it, and in which form. */
export interface Spot {
  t: number;
  dx: number;
  dy: number;
  form: number;
}

/** Steps off the way, nearest first, as far as from the middle of a card to the middle between rows; x in halves of the label's width. */
const OFF_WAY: readonly Vec[] = [16, -16, 26, -26, 36, -36, 48, -48, 63, -63].flatMap((y) => [0, -0.6, 0.6, -0.9, 0.9].map((x) => ({ x, y })));

const OFF_FRACTIONS = [0.5, 0.38, 0.62, 0.26, 0.74];
/** So many labels, the first by rank, may leave their ways: looking for room takes time. */
const MAX_OFF = 24;

/** All spots for a wish, best first: each form on the way, and if it has shorter ones beside it, before the next form. */
function* spots(forms: readonly string[], old: Spot | undefined, off: boolean): Generator<Spot> {
  for (let form = 0; form < forms.length; form++) {
    if (old?.form === form) yield old;
    for (const t of FRACTIONS) yield { t, dx: 0, dy: 0, form };
    if (!off) continue;
    const half = labelWidth(forms[form]!) / 2;
    for (const m of OFF_WAY) for (const t of OFF_FRACTIONS) yield { t, dx: m.x * half, dy: m.y, form };
  }
}

/** `before` holds where labels were: each stays there while it still fits. */
export function placeLabels(wishes: readonly LabelWish[], o: Obstacles, before: ReadonlyMap<string, Spot>): { labels: PlacedLabel[]; fractions: Map<string, Spot> } {
  const labels: PlacedLabel[] = [];
  const fractions = new Map<string, Spot>();
  const taken: Rect[] = [];
  let off = 0;
  for (const wish of [...wishes].sort((a, b) => b.rank - a.rank || (a.id < b.id ? -1 : 1))) {
    const way = o.ways.get(wish.id);
    if (!way) continue;
    const forms = [wish.text, ...(wish.shorter ?? [])];
    const box = (s: Spot, h = LABEL_H): Rect => {
      const p = along(way, s.t);
      return around({ x: p.x + s.dx, y: p.y + s.dy }, labelWidth(forms[s.form]!), h);
    };
    let s: Spot | undefined;
    // The first that hides nothing; else, where there must be one, the first that fits.
    for (const spot of spots(forms, before.get(wish.id), forms.length > 1 && off++ < MAX_OFF)) {
      const r = box(spot);
      if (o.rects.some((x) => overlaps(r, x, 3)) || taken.some((x) => overlaps(r, x, 2))) continue;
      const clear = !hidesOther(box(spot, LABEL_H - 4), wish.id, o.ways);
      if (clear || wish.must) s = clear ? spot : (s ?? spot);
      if (clear) break;
    }
    if (s === undefined) continue;
    const r = box(s);
    taken.push(r);
    fractions.set(wish.id, s);
    labels.push({ id: wish.id, text: forms[s.form]!, x: r.x + r.w / 2, y: r.y + r.h / 2, w: r.w, form: s.form });
  }
  return { labels, fractions };
}
