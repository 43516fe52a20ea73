import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { applySuggestion, complete, FIELDS, isEmpty, parseQuery, remove, type FilterField, type Suggestion } from "../model/filter.ts";
import { addTokens, known, setFilter, view } from "../state.ts";
import { CloseIcon, SearchIcon } from "./icons.tsx";

const SHORT: Record<FilterField | "text", string> = { namespace: "ns", workload: "workload", verdict: "verdict", protocol: "proto", edge: "edge", reason: "reason", policy: "policy", text: "text" };

function Chip(p: { field: FilterField | "text"; values: readonly string[] }): JSX.Element {
  const words = p.values.map((v) => (p.field === "edge" ? v.replace(">", " → ") : v)).join(", ");
  return (
    <span class="chip">
      <span class="chip-field">{SHORT[p.field]}</span> <b title={words}>{words}</b>
      <button type="button" aria-label={`Remove filter ${p.field} ${words}`} onClick={() => setFilter(remove(view.value.filter, p.field))}>
        <CloseIcon />
      </button>
    </span>
  );
}

function Suggestions(p: { list: readonly Suggestion[]; active: number; pick: (s: Suggestion) => void }): JSX.Element {
  return (
    <ul class="suggestions" id="query-suggestions" role="listbox" aria-label="Suggestions">
      {p.list.map((s, i) => (
        <li key={s.insert} id={`query-option-${i}`} role="option" aria-selected={i === p.active} onPointerDown={(e) => (e.preventDefault(), p.pick(s))}>
          <span>{s.label}</span>
          <span class="hint">{s.hint}</span>
        </li>
      ))}
      <li class="suggestions-help" role="presentation">
        Several words narrow; values of one field are alternatives. Example: <code>ns:shop verdict:dropped</code>
      </li>
    </ul>
  );
}

export function QueryBar(): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const text = useSignal("");
  const focused = useSignal(false);
  const active = useSignal(-1);
  useEffect(() => {
    const onKey = (e: KeyboardEvent): void => {
      if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === "k") {
        e.preventDefault();
        input.current?.focus();
        input.current?.select();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  const f = view.value.filter;
  const list = focused.value ? complete(text.value, known.value) : [];
  // "ns:sh" is the start of a name: Enter takes the first one that fits. Without a field it is text, and stays what was typed.
  const word = parseQuery(text.value).at(-1);
  const at = active.value >= 0 ? active.value : list.length && word && word.field !== "text" && !/\s$/.test(text.value) ? 0 : -1;
  const submit = (): void => {
    const tokens = parseQuery(text.value);
    if (tokens.length) addTokens(tokens);
    text.value = "";
    active.value = -1;
  };
  const pick = (s: Suggestion): void => {
    text.value = applySuggestion(text.value, s);
    active.value = -1;
    if (s.complete) submit();
  };
  const onKey = (e: KeyboardEvent): void => {
    const chosen = list[at];
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      const n = list.length;
      if (n) active.value = (active.value + (e.key === "ArrowDown" ? 1 : -1) + n + (active.value < 0 && e.key === "ArrowUp" ? 1 : 0)) % n;
    } else if (e.key === "Enter") {
      e.preventDefault();
      if (chosen) pick(chosen);
      else submit();
    } else if (e.key === "Tab" && chosen) {
      e.preventDefault();
      pick(chosen);
    } else if (e.key === "Escape") {
      e.stopPropagation();
      if (text.value) text.value = "";
      else input.current?.blur();
    } else if (e.key === "Backspace" && text.value === "" && !isEmpty(f)) {
      const last = f.text ? "text" : [...FIELDS].reverse().find((k) => f[k]?.length);
      if (last) setFilter(remove(f, last));
    }
  };
  return (
    <div class="query" role="search" onClick={(e) => e.target === e.currentTarget && input.current?.focus()}>
      <SearchIcon />
      {FIELDS.filter((k) => f[k]?.length).map((k) => (
        <Chip key={k} field={k} values={f[k]!} />
      ))}
      {f.text && <Chip field="text" values={[f.text]} />}
      <input
        ref={input} type="text" spellcheck={false} autocomplete="off" value={text.value}
        placeholder={isEmpty(f) ? "Filter by namespace, workload, verdict, policy, protocol or any text" : "Add a filter"}
        role="combobox" aria-label="Filter" aria-expanded={list.length > 0} aria-controls="query-suggestions" aria-autocomplete="list"
        aria-activedescendant={at >= 0 ? `query-option-${at}` : undefined}
        onInput={(e) => ((text.value = e.currentTarget.value), (active.value = -1))}
        onFocus={() => (focused.value = true)} onBlur={() => (focused.value = false)} onKeyDown={onKey}
      />
      {!isEmpty(f) && (
        <button type="button" class="query-clear" onClick={() => setFilter({})}>
          Clear
        </button>
      )}
      <kbd>Ctrl K</kbd>
      {list.length > 0 && <Suggestions list={list} active={at} pick={pick} />}
    </div>
  );
}
