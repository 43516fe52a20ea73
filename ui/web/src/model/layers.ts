/** Layers of a directed graph: callers left of what they call, as far as cycles allow. */

/** Weight by "from" and "to". Self loops are ignored. */
export type Weights = ReadonlyMap<string, ReadonlyMap<string, number>>;

export function weights(pairs: Iterable<readonly [string, string, (number | undefined)?]>): Map<string, Map<string, number>> {
  const w = new Map<string, Map<string, number>>();
  for (const [a, b, by = 1] of pairs) {
    if (a === b) continue;
    const row = w.get(a) ?? new Map<string, number>();
    row.set(b, (row.get(b) ?? 0) + by);
    w.set(a, row);
  }
  return w;
}

const weight = (w: Weights, a: string, b: string): number => w.get(a)?.get(b) ?? 0;

/** An order in which few edges point backwards: the greedy heuristic of Eades, Lin and Smyth (1993). */
export function order(ids: readonly string[], w: Weights): string[] {
  const left: string[] = [];
  const right: string[] = [];
  const rest = new Set([...ids].sort());
  const sum = (a: string, incoming: boolean): number => {
    let s = 0;
    for (const b of rest) if (b !== a) s += incoming ? weight(w, b, a) : weight(w, a, b);
    return s;
  };
  while (rest.size) {
    let best = "";
    let bestScore = -Infinity;
    let sink = "";
    for (const id of rest) {
      const out = sum(id, false);
      const into = sum(id, true);
      if (out === 0 && into > 0) sink = id;
      // A pure source goes first of all.
      const score = into === 0 ? Infinity : out - into;
      if (score > bestScore) [best, bestScore] = [id, score];
    }
    const pick = bestScore === Infinity || !sink ? best : sink;
    rest.delete(pick);
    if (pick === sink && bestScore !== Infinity) right.unshift(pick);
    else left.push(pick);
  }
  return improve([...left, ...right], w);
}

/** Moves single ids to where they make less point backwards: the greedy order takes a busy one first even where its callers fit before it. */
function improve(seq: string[], w: Weights): string[] {
  let better = true;
  for (let pass = 0; better && pass < 4; pass++) {
    better = false;
    for (const id of [...seq]) {
      const rest = seq.filter((x) => x !== id);
      // What points backwards with id at the front, then at each place further on.
      let cost = rest.reduce((s, x) => s + weight(w, x, id), 0);
      const now = seq.indexOf(id);
      let best = 0;
      let bestCost = cost;
      let nowCost = cost;
      rest.forEach((x, i) => {
        cost += weight(w, id, x) - weight(w, x, id);
        if (i + 1 === now) nowCost = cost;
        if (cost < bestCost - 1e-9) [best, bestCost] = [i + 1, cost];
      });
      if (now === 0) nowCost = rest.reduce((s, x) => s + weight(w, x, id), 0);
      if (bestCost >= nowCost - 1e-9) continue;
      seq = [...rest.slice(0, best), id, ...rest.slice(best)];
      better = true;
    }
  }
  return seq;
}

/** Layer of each id from 0: longest path over the edges that point forwards in `order`. What has no edges gets -1. */
export function layers(ids: readonly string[], w: Weights): Map<string, number> {
  const seq = order(ids, w);
  const layer = new Map<string, number>(seq.map((id) => [id, 0]));
  const linked = new Set<string>();
  seq.forEach((a, i) => {
    for (let j = 0; j < seq.length; j++) {
      const b = seq[j]!;
      if (!weight(w, a, b)) continue;
      linked.add(a).add(b);
      if (j > i) layer.set(b, Math.max(layer.get(b)!, layer.get(a)! + 1));
    }
  });
  // A source is drawn beside what it calls, not at the far left.
  for (const a of [...seq].reverse()) {
    const i = seq.indexOf(a);
    const next = seq.slice(i + 1).filter((b) => weight(w, a, b));
    const called = seq.slice(0, i).some((b) => weight(w, b, a));
    if (next.length && !called) layer.set(a, Math.min(...next.map((b) => layer.get(b)!)) - 1);
  }
  for (const id of ids) if (!linked.has(id)) layer.set(id, -1);
  return layer;
}
