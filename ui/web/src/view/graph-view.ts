import type { FunctionComponent } from "preact";
import type { Snapshot } from "../model/types.ts";
import type { Selection, WidthBy } from "../model/url.ts";

/** A picture of the map. The SVG one draws rich cards for some hundred workloads; another may draw thousands as points. */
export interface GraphViewProps {
  snapshot: Snapshot;
  /** What is looked at; a change may move cards, a change of data may not. */
  subject: string;
  selection: Selection;
  /** Size of the picture in pixels, never 0. */
  room: { w: number; h: number };
  width: WidthBy;
  onSelect: (s: Selection) => void;
  /** Called with the picture's controls when it is there. */
  handle: (h: GraphHandle | null) => void;
}

export interface GraphHandle {
  fit(): void;
  /** Above 1 is closer. */
  zoomBy(factor: number): void;
  /** Lays out anew. */
  arrange(): void;
}

export type GraphView = FunctionComponent<GraphViewProps>;
