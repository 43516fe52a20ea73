import type { Filter } from "./types.ts";

/** What a person types in the query bar: `ns:shop verdict:dropped "slow path"`, and the URL and the server's query. */

export type FilterField = "namespace" | "workload" | "verdict" | "protocol" | "edge" | "reason" | "policy";

export const FIELDS: readonly FilterField[] = ["namespace", "workload", "verdict", "protocol", "edge", "reason", "policy"];
export const VERDICTS = ["forwarded", "error", "dropped", "audit"] as const;
export const PROTOCOLS = ["tcp", "udp", "icmp", "sctp", "http", "dns"] as const;

const ALIASES: Record<string, FilterField> = {
  ns: "namespace", namespace: "namespace", group: "namespace",
  workload: "workload", wl: "workload", w: "workload",
  verdict: "verdict", v: "verdict",
  protocol: "protocol", proto: "protocol", p: "protocol",
  edge: "edge",
  reason: "reason", drop: "reason",
  policy: "policy", netpol: "policy",
};

/** The prefix that is offered and shown for a field. */
export const PREFIX: Record<FilterField, string> = {
  namespace: "ns", workload: "workload", verdict: "verdict", protocol: "proto", edge: "edge", reason: "reason", policy: "policy",
};

export interface Token {
  field: FilterField | "text";
  value: string;
}

/** Splits at blanks outside of double quotes; an open quote reaches to the end. */
function words(input: string): string[] {
  return input.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? [];
}

export function parseToken(word: string): Token {
  const plain = word.replaceAll('"', "");
  const colon = plain.indexOf(":");
  const field = colon > 0 ? ALIASES[plain.slice(0, colon).toLowerCase()] : undefined;
  if (!field) return { field: "text", value: plain };
  const value = plain.slice(colon + 1);
  const exact = field === "workload" || field === "namespace" || field === "edge" || field === "policy";
  return { field, value: exact ? value : field === "reason" ? value.toUpperCase() : value.toLowerCase() };
}

export function parseQuery(input: string): Token[] {
  return words(input).map(parseToken).filter((t) => t.value !== "");
}

/** A filter without empty fields and with sorted, distinct values, so that equal filters are equal strings. */
export function normalise(f: Filter): Filter {
  const out: Filter = {};
  for (const field of FIELDS) {
    const values = [...new Set(f[field] ?? [])].filter(Boolean).sort();
    if (values.length) out[field] = values;
  }
  const text = f.text?.trim();
  if (text) out.text = text;
  return out;
}

export function add(f: Filter, tokens: readonly Token[]): Filter {
  const out: Filter = { ...f };
  for (const t of tokens) {
    if (t.field === "text") out.text = [out.text, t.value].filter(Boolean).join(" ");
    else out[t.field] = [...(out[t.field] ?? []), t.value];
  }
  return normalise(out);
}

export function remove(f: Filter, field: FilterField | "text", value?: string): Filter {
  const out: Filter = { ...f };
  if (field === "text") delete out.text;
  else if (value === undefined) delete out[field];
  else out[field] = (f[field] ?? []).filter((v) => v !== value);
  return normalise(out);
}

export function isEmpty(f: Filter): boolean {
  return !f.text && FIELDS.every((k) => !f[k]?.length);
}

/** Both filters at once. A field that only one has is taken from it; where both have it, the second decides. */
export function merge(a: Filter, b: Filter): Filter {
  const text = [a.text, b.text].filter(Boolean).join(" ");
  return normalise({ ...a, ...b, text });
}

export function toParams(f: Filter): URLSearchParams {
  const p = new URLSearchParams();
  const n = normalise(f);
  for (const field of FIELDS) for (const v of n[field] ?? []) p.append(field, v);
  if (n.text) p.append("text", n.text);
  return p;
}

export function fromParams(p: URLSearchParams): Filter {
  const f: Filter = {};
  for (const field of FIELDS) f[field] = p.getAll(field);
  f.text = p.getAll("text").join(" ");
  return normalise(f);
}

export interface Known {
  groups: readonly string[];
  workloads: readonly string[];
  /** Without their kind: "data/default-deny". */
  policies: readonly string[];
}

export interface Suggestion {
  /** What replaces the last word. */
  insert: string;
  label: string;
  hint: string;
  /** False for a field name that still needs a value. */
  complete: boolean;
}

const quoted = (v: string): string => (/\s/.test(v) ? `"${v}"` : v);

function valuesOf(field: FilterField, known: Known): readonly string[] {
  switch (field) {
    case "namespace": return known.groups;
    case "workload": return known.workloads;
    case "policy": return known.policies;
    case "verdict": return VERDICTS;
    case "protocol": return PROTOCOLS;
    default: return [];
  }
}

/** Fields that are offered before anything is typed. */
const OFFERED = ["namespace", "workload", "verdict", "protocol", "policy"] as const;

/** Offers for the word at the end of the input, best first, at most `limit`. */
export function complete(input: string, known: Known, limit = 8): Suggestion[] {
  const last = /\s$/.test(input) ? "" : (words(input).at(-1) ?? "");
  const typed = last.replaceAll('"', "").toLowerCase();
  const colon = typed.indexOf(":");
  const field = colon > 0 ? ALIASES[typed.slice(0, colon)] : undefined;
  const rank = (v: string, q: string): number => {
    const l = v.toLowerCase();
    return l.startsWith(q) ? 0 : l.slice(l.indexOf("/") + 1).startsWith(q) ? 1 : l.includes(q) ? 2 : -1;
  };
  const pick = (f: FilterField, q: string): Suggestion[] =>
    valuesOf(f, known)
      .map((v) => ({ v, r: rank(v, q) }))
      .filter((x) => x.r >= 0)
      .sort((a, b) => a.r - b.r)
      .map(({ v }) => ({ insert: `${PREFIX[f]}:${quoted(v)}`, label: v, hint: f, complete: true }));
  if (field) return pick(field, typed.slice(colon + 1)).slice(0, limit);
  const fields: Suggestion[] = OFFERED
    .filter((f) => f.startsWith(typed) || PREFIX[f].startsWith(typed))
    .map((f) => ({ insert: PREFIX[f] + ":", label: PREFIX[f] + ":", hint: f, complete: false }));
  if (!typed) return fields;
  const values = OFFERED.flatMap((f) => pick(f, typed));
  return [...fields, ...values].slice(0, limit);
}

/** Puts a suggestion in the place of the last word. */
export function applySuggestion(input: string, s: Suggestion): string {
  const last = /\s$/.test(input) ? "" : (words(input).at(-1) ?? "");
  return input.slice(0, input.length - last.length) + s.insert + (s.complete ? " " : "");
}
