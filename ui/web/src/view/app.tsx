import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { Page } from "../model/url.ts";
import { connection, go, isLive, live, status, stream, view } from "../state.ts";
import { Drawer } from "./drawer.tsx";
import { FlowsTable } from "./flows-table.tsx";
import { DnsIcon, DropsIcon, FlowsIcon, MapIcon, NodesIcon } from "./icons.tsx";
import { MapPane } from "./map-pane.tsx";
import { DnsPage, DropsPage, FlowsPage, NodesPage } from "./pages.tsx";
import { Split } from "./split.tsx";
import { Timeline } from "./timeline.tsx";
import { TopBar } from "./top-bar.tsx";

const ENTRIES: readonly (readonly [Page, string, () => JSX.Element])[] = [
  ["map", "Map", MapIcon],
  ["flows", "Flows", FlowsIcon],
  ["drops", "Drops", DropsIcon],
  ["dns", "DNS", DnsIcon],
  ["nodes", "Nodes", NodesIcon],
];

function Rail(): JSX.Element {
  const now = view.value.page;
  return (
    <nav class="rail" aria-label="Pages">
      {ENTRIES.map(([page, name, Icon]) => (
        <a
          key={page} href={page === "map" ? "/" : `/?page=${page}`} class={page === now ? "on" : ""} aria-current={page === now ? "page" : undefined}
          onClick={(e) => {
            if (e.metaKey || e.ctrlKey || e.shiftKey) return;
            e.preventDefault();
            go({ page, selection: null });
          }}
        >
          <Icon />
          {name}
        </a>
      ))}
    </nav>
  );
}

/** A short break is no news: the banner waits this long, ms. */
const PATIENCE = 1200;

function Banner(): JSX.Element | null {
  const c = connection.value;
  const shown = useSignal(false);
  const left = useSignal(0);
  const down = isLive.value && c.state === "lost";
  useEffect(() => {
    if (!down) {
      shown.value = false;
      return;
    }
    const wait = setTimeout(() => (shown.value = true), PATIENCE);
    const count = setInterval(() => (left.value = connection.value.state === "lost" ? Math.max(0, Math.ceil((connection.value.retryAt - Date.now()) / 1000)) : 0), 250);
    return () => {
      clearTimeout(wait);
      clearInterval(count);
    };
  }, [down]);
  if (down && shown.value)
    return (
      <div class="banner" role="alert">
        <b>! Disconnected.</b> {live.value.time > 0 ? "What is shown is the last that came." : "The server does not answer."} {left.value > 0 ? `Trying again in ${left.value} s.` : "Trying again…"}
        <button type="button" class="button small" onClick={() => stream.retry()}>
          Try now
        </button>
      </div>
    );
  const problem = status.value.status?.error;
  if (problem && view.value.page !== "nodes")
    return (
      <div class="banner" role="alert">
        <b>!</b> {problem}
        <button type="button" class="button small" onClick={() => go({ page: "nodes", selection: null })}>
          Status
        </button>
      </div>
    );
  return null;
}

const MapPage = (): JSX.Element => (
  <>
    <Timeline />
    <Split name="map" top={<MapPane />} bottom={<FlowsTable />} />
  </>
);

const PAGE: Record<Page, () => JSX.Element> = { map: MapPage, flows: FlowsPage, drops: DropsPage, dns: DnsPage, nodes: NodesPage };

export function App(): JSX.Element {
  const page = view.value.page;
  const Body = PAGE[page];
  const name = ENTRIES.find(([p]) => p === page)![1];
  useEffect(() => {
    document.title = page === "map" ? "Parallax" : `${name} · Parallax`;
  }, [page]);
  return (
    <div class="app">
      <a class="skip" href="#main">
        Skip to content
      </a>
      <TopBar />
      <Rail />
      <main id="main" tabIndex={-1} aria-label={name} class={`page-${page}`}>
        <Banner />
        <Body key={page} />
      </main>
      <Drawer />
    </div>
  );
}
