import type { Flow, Hop } from "./types.ts";

/** All observations of a flow in time order: the record's own, and the others that the relay joined to it. */
export function hops(f: Flow): Hop[] {
  const own: Hop = { node: f.node, point: f.point, time: f.time };
  const others = (f.path ?? []).filter((h) => h.node !== own.node || h.point !== own.point);
  return [own, ...others].sort((a, b) => a.time - b.time);
}
