import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { plural, span as spanWords, when } from "../model/format.ts";
import { goLive, goRange, go, isLive, setTheme, status, theme, view, type Theme } from "../state.ts";
import { AutoIcon, Logo, MoonIcon, SunIcon } from "./icons.tsx";
import { Menu } from "./parts.tsx";
import { QueryBar } from "./query-bar.tsx";

const LIVE_WINDOWS = [60, 900];
const LASTS = [3600, 6 * 3600, 24 * 3600];

function rangeName(): string {
  const r = view.value.range;
  if (r.mode === "live") return `Last ${spanWords(r.window * 1000)}`;
  if (r.mode === "last") return `Last ${spanWords(r.seconds * 1000).replace("60 min", "1 h")}`;
  return `${when(r.from)} – ${when(r.to)}`;
}

const local = (ms: number): string => {
  const d = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return d.toISOString().slice(0, 19);
};

function CustomRange({ done }: { done: () => void }): JSX.Element {
  const r = view.value.range;
  const now = Date.now();
  const from = useSignal(local(r.mode === "fixed" ? r.from : now - 1_800_000));
  const to = useSignal(local(r.mode === "fixed" ? r.to : now));
  const bad = !(Date.parse(from.value) < Date.parse(to.value));
  const apply = (e: Event): void => {
    e.preventDefault();
    if (bad) return;
    goRange(Date.parse(from.value), Date.parse(to.value));
    done();
  };
  return (
    <form class="custom-range" onSubmit={apply}>
      <label>
        From
        <input type="datetime-local" step="1" value={from.value} onInput={(e) => (from.value = e.currentTarget.value)} />
      </label>
      <label>
        To
        <input type="datetime-local" step="1" value={to.value} onInput={(e) => (to.value = e.currentTarget.value)} />
      </label>
      {bad && <p class="hint drop">The end must be after the beginning.</p>}
      <button type="submit" class="button accent" disabled={bad}>
        Show this range
      </button>
    </form>
  );
}

function RangeMenu(): JSX.Element {
  const r = view.value.range;
  return (
    <Menu label={<span class="range-name">{rangeName()}</span>} name={`Time range: ${rangeName()}`} align="right">
      {(close) => {
        const item = (label: string, on: boolean, pick: () => void): JSX.Element => (
          <button type="button" class="menu-item" aria-pressed={on} onClick={() => (pick(), close())}>
            {label}
          </button>
        );
        return (
          <>
            <p class="menu-title">Live, figures over the last</p>
            {LIVE_WINDOWS.map((w) => item(w === 60 ? "1 min" : "15 min", r.mode === "live" && r.window === w, () => go({ range: { mode: "live", window: w } })))}
            <p class="menu-title">From storage, up to now</p>
            {LASTS.map((s) => item(`${s / 3600} h`, r.mode === "last" && r.seconds === s, () => go({ range: { mode: "last", seconds: s } })))}
            <p class="menu-title">Between two times</p>
            <CustomRange done={close} />
          </>
        );
      }}
    </Menu>
  );
}

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const THEME_NAME: Record<Theme, string> = { auto: "as the system", light: "light", dark: "dark" };

function ThemeButton(): JSX.Element {
  const t = theme.value;
  const title = `Theme: ${THEME_NAME[t]}. Change to ${THEME_NAME[NEXT[t]]}`;
  return (
    <button type="button" class="button square" aria-label={title} title={title} onClick={() => setTheme(NEXT[t])}>
      {t === "auto" ? <AutoIcon /> : t === "light" ? <SunIcon /> : <MoonIcon />}
    </button>
  );
}

function Cluster(): JSX.Element | null {
  const { status: s, error } = status.value;
  if (!s && !error) return null;
  const nodes = s?.nodes ?? [];
  const up = nodes.filter((n) => n.state === "connected").length;
  const bad = error !== "" || !!s?.error || up < nodes.length;
  const words = error ? "status unknown" : up < nodes.length ? `${up} of ${nodes.length} nodes` : plural(nodes.length, "node");
  return (
    <button type="button" class="button cluster" onClick={() => go({ page: "nodes", selection: null })} title={error || s?.error || "Collectors and the ledger"}>
      <span class={`dot ${bad ? "error" : "ok"}`} aria-hidden="true" />
      {bad ? "! " : ""}
      {words}
    </button>
  );
}

export function TopBar(): JSX.Element {
  const on = isLive.value;
  return (
    <header class="top-bar">
      <a class="brand" href="/" onClick={(e) => (e.preventDefault(), go({ page: "map", selection: null }))}>
        <Logo />
        <span>Parallax</span>
      </a>
      <Cluster />
      <QueryBar />
      <button type="button" class={`button live ${on ? "on" : ""}`} aria-pressed={on} onClick={() => (on ? go({ range: { mode: "last", seconds: 3600 } }) : goLive())} title={on ? "Live: figures change each second. Click for the stored last hour" : "Back to live"}>
        <span class="dot" aria-hidden="true" />
        Live
      </button>
      <RangeMenu />
      <ThemeButton />
    </header>
  );
}
