import type { Flow, Hop } from "./types.ts";

/** Order in which a packet on its way to the responder passes the observation points. */
const ORDER = [
  "from-proxy", "from-endpoint", "from-host", "from-stack", "to-stack", "to-crypto", "to-overlay", "to-network",
  "from-network", "from-overlay", "from-crypto", "to-host", "to-proxy", "to-endpoint",
];

/**
 * All observations of a flow from the initiator's side to the responder's: the record's own, and the others that the relay joined
 * to it. Times alone don't order them: an exchange ends at the responder first, and clocks of two nodes differ.
 */
export function hops(f: Flow): Hop[] {
  const own: Hop = { node: f.node, point: f.point, time: f.time };
  const others = (f.path ?? []).filter((h) => h.node !== own.node || h.point !== own.point);
  return [own, ...others].sort((a, b) => ORDER.indexOf(a.point) - ORDER.indexOf(b.point) || a.time - b.time);
}
