import type { ComponentChildren, JSX } from "preact";

/** Line icons on a 20-unit grid, drawn in the colour of the text. */
function icon(children: ComponentChildren): () => JSX.Element {
  return () => (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true">
      {children}
    </svg>
  );
}

export const Logo = icon(
  <>
    <path d="M9.1 6.6 4.8 15M10.9 6.6l4.3 8.4" />
    <circle cx="10" cy="4.4" r="2.2" />
    <circle class="solid" cx="4" cy="16.4" r="1.7" />
    <circle class="solid" cx="16" cy="16.4" r="1.7" />
  </>,
);
export const MapIcon = icon(
  <>
    <circle cx="4.5" cy="5" r="2" />
    <circle cx="15.5" cy="5" r="2" />
    <circle cx="4.5" cy="15" r="2" />
    <circle cx="15.5" cy="15" r="2" />
    <path d="M6.5 5h7M5.7 6.6l8.6 6.8M14.3 6.6l-8.6 6.8" />
  </>,
);
export const FlowsIcon = icon(<path d="M3 5h14M3 10h14M3 15h9" />);
export const DropsIcon = icon(<path d="M10 3 17.5 16.5h-15zM10 8v4M10 14.2v.1" />);
export const DnsIcon = icon(
  <>
    <circle cx="10" cy="10" r="7" />
    <path d="M3 10h14M10 3c2.4 2.2 3 4.6 3 7s-.6 4.8-3 7c-2.4-2.2-3-4.6-3-7s.6-4.8 3-7z" />
  </>,
);
export const NodesIcon = icon(
  <>
    <rect x="3" y="3.5" width="14" height="5.5" rx="1.5" />
    <rect x="3" y="11" width="14" height="5.5" rx="1.5" />
    <path d="M6 6.2v.1M6 13.7v.1" />
  </>,
);
export const SearchIcon = icon(
  <>
    <circle cx="8.5" cy="8.5" r="5" />
    <path d="m12.4 12.4 4.4 4.4" />
  </>,
);
export const CloseIcon = icon(<path d="m5 5 10 10M15 5 5 15" />);
export const MoonIcon = icon(<path d="M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3z" />);
export const SunIcon = icon(
  <>
    <circle cx="10" cy="10" r="3.4" />
    <path d="M10 2.5v2M10 15.5v2M2.5 10h2M15.5 10h2M4.7 4.7l1.4 1.4M13.9 13.9l1.4 1.4M4.7 15.3l1.4-1.4M13.9 6.1l1.4-1.4" />
  </>,
);
export const AutoIcon = icon(
  <>
    <circle cx="10" cy="10" r="6.5" />
    <path class="solid" d="M10 3.5a6.5 6.5 0 0 1 0 13z" />
  </>,
);
export const PauseIcon = icon(<path d="M7 4.5v11M13 4.5v11" />);
export const PlayIcon = icon(<path class="solid" d="M6.5 4.5v11l9-5.5z" />);
export const PlusIcon = icon(<path d="M10 4v12M4 10h12" />);
export const MinusIcon = icon(<path d="M4 10h12" />);
export const FitIcon = icon(<path d="M3.5 7.5v-4h4M16.5 7.5v-4h-4M3.5 12.5v4h4M16.5 12.5v4h-4" />);
export const TidyIcon = icon(<path d="M3 3.5h5v4H3zM12 3.5h5v4h-5zM3 12.5h5v4H3zM12 12.5h5v4h-5z" />);
export const ChevronIcon = icon(<path d="m6 8 4 4 4-4" />);
export const BackIcon = icon(<path d="m12 5-5 5 5 5" />);
export const ForwardIcon = icon(<path d="m8 5 5 5-5 5" />);
