// Package api serves the page: its files, JSON queries for history and details, and a WebSocket for what is live.
//
// # Contract with the page
//
// All times are Unix milliseconds, latencies are milliseconds, sizes bytes, rates per second. A group is a namespace, "host NAME" or "world".
//
//	GET /api/v1/map?from=&to=&FILTER       -> Snapshot   (from storage)
//	GET /api/v1/flows?from=&to=&limit=&before=&FILTER -> FlowPage (newest first, from storage)
//	GET /api/v1/node?id=&from=&to=&FILTER  -> Detail     (series and top lists of one node)
//	GET /api/v1/edge?id=&from=&to=&FILTER  -> Detail
//	GET /api/v1/trace?id=&from=&to=        -> Trace      (404 if nothing of it is stored; default: all that is stored)
//	GET /api/v1/status                     -> Status
//	GET /api/v1/ws                         WebSocket: client sends Subscribe (again on each change of filter), server sends Tick once a second
//
// FILTER is: namespace=, workload= (group/name), verdict=, protocol=, edge= (src-id>dst-id), reason=, policy=, text= ; each may repeat, values of one name are alternatives.
// Errors are {"error": "one line"} with a 4xx or 5xx status.
package api

// Subscribe is what the client sends on the WebSocket.
type Subscribe struct {
	Op     string `json:"op"` // "subscribe", "pause" (no flows in ticks, the map goes on), "resume"
	Filter Filter `json:"filter"`
	Window int    `json:"window"` // seconds over which the live map's figures are taken: 15 to 900; 0 means 60
}

// Filter is the page's filter. Empty means everything.
type Filter struct {
	Namespace []string `json:"namespace,omitempty"` // a group, either side
	Workload  []string `json:"workload,omitempty"`  // "group/name", either side
	Verdict   []string `json:"verdict,omitempty"`   // forwarded, dropped, error (failed exchanges), audit
	Protocol  []string `json:"protocol,omitempty"`  // tcp, udp, icmp, sctp, http, dns
	Edge      []string `json:"edge,omitempty"`      // "src-id>dst-id": initiator and responder, in that direction
	Reason    []string `json:"reason,omitempty"`    // drop reason, "NO_SOCKET"
	Policy    []string `json:"policy,omitempty"`    // that decided: "data/default-deny", "default-deny", "NetworkPolicy data/default-deny"
	Text      string   `json:"text,omitempty"`
}

// Tick is one second of the live view. The first one after a Subscribe has Reset set: it replaces what the page holds.
type Tick struct {
	Time     int64    `json:"time"`
	Reset    bool     `json:"reset,omitempty"`
	Map      Snapshot `json:"map"`
	Flows    []Flow   `json:"flows"`              // new ones in time order, at most 200; Skipped says how many more there were
	Skipped  uint64   `json:"skipped,omitempty"`  // matched, not sent: still in storage
	Timeline []Bucket `json:"timeline,omitempty"` // with Reset: the last 15 minutes; else the buckets that changed
	Ledger   Ledger   `json:"ledger"`
}

// Snapshot is the map over a span of time.
type Snapshot struct {
	From     int64    `json:"from"`
	To       int64    `json:"to"`
	Nodes    []Node   `json:"nodes"`
	Edges    []Edge   `json:"edges"`
	Timeline []Bucket `json:"timeline,omitempty"` // history only
	Groups   []string `json:"groups"`             // all groups known in the span, whatever the filter
}

// Node is a card.
type Node struct {
	ID       string  `json:"id"` // "group/name"
	Group    string  `json:"group"`
	Name     string  `json:"name"`
	Kind     string  `json:"kind"`     // Deployment, StatefulSet, Process, World, ...
	Rate     float64 `json:"rate"`     // requests served per second; connections per second where no L7 is known
	RateUnit string  `json:"rateUnit"` // "req/s" or "conn/s"
	P95      float64 `json:"p95"`      // served requests; -1 unknown
	ErrorPct float64 `json:"errorPct"` // 0..100 of served requests, -1 unknown
	Drops    float64 `json:"drops"`    // per second, as source or destination
	BytesIn  float64 `json:"bytesIn"`  // per second
	BytesOut float64 `json:"bytesOut"`
	Pods     int     `json:"pods"`
}

// Edge is all traffic from one node (the client) to another.
type Edge struct {
	ID         string     `json:"id"` // "src-id>dst-id"
	Src        string     `json:"src"`
	Dst        string     `json:"dst"`
	Flows      float64    `json:"flows"` // connections per second
	Requests   float64    `json:"requests"`
	Errors     float64    `json:"errors"`  // failed exchanges per second
	Drops      float64    `json:"drops"`   // packets per second
	Denied     float64    `json:"denied"`  // connections per second that policy denied
	Audited    float64    `json:"audited"` // and that it would have denied
	Bytes      float64    `json:"bytes"`   // both directions, per second
	P50        float64    `json:"p50"`     // -1 unknown
	P95        float64    `json:"p95"`     // -1 unknown
	RTT        float64    `json:"rtt"`     // mean TCP handshake, -1 unknown
	Verdict    string     `json:"verdict"` // worst of the span: dropped, error, audit, forwarded
	DropReason string     `json:"dropReason,omitempty"`
	Policies   []Decision `json:"policies,omitempty"` // what policy decided in the span
	Protocols  string     `json:"protocols"`          // "HTTP", "DNS", "TCP 5432", ... most used first, comma separated
	LastSeen   int64      `json:"lastSeen"`
}

// Decision is what one set of policies decided on an edge or node over the span. Lists of them have denials first, then audits,
// then what was allowed, and of each what decided most first; at most 20.
type Decision struct {
	Verdict     string   `json:"verdict"`     // dropped, audit (would have been dropped), forwarded
	Names       []string `json:"names"`       // "NetworkPolicy data/default-deny"; of a denial and an audit all that isolate the endpoint
	Connections uint64   `json:"connections"` // that were decided on
	Packets     uint64   `json:"packets"`     // that were denied
	LastSeen    int64    `json:"lastSeen"`
}

// Bucket is one bar of the timeline.
type Bucket struct {
	Time      int64  `json:"time"` // start
	Width     int64  `json:"width"`
	Forwarded uint64 `json:"forwarded"` // events
	Errors    uint64 `json:"errors"`
	Drops     uint64 `json:"drops"` // packets
}

// Flow is one row of the table, words ready to show.
type Flow struct {
	ID        string  `json:"id"`
	Time      int64   `json:"time"` // Unix microseconds here, so that order shows
	Src       string  `json:"src"`  // node id
	Dst       string  `json:"dst"`
	SrcName   string  `json:"srcName"` // "shop/frontend-7c9f" or "10.1.2.3"
	DstName   string  `json:"dstName"`
	SrcAddr   string  `json:"srcAddr"` // "10.1.2.3:41234"
	DstAddr   string  `json:"dstAddr"`
	Kind      string  `json:"kind"`
	What      string  `json:"what"`             // "GET /cart/{id} -> 200", "TCP SYN", "NO_SOCKET in tcp_v4_rcv"
	Verdict   string  `json:"verdict"`          // forwarded, dropped, audit
	Failed    bool    `json:"failed,omitempty"` // exchange that failed
	Reason    string  `json:"reason,omitempty"`
	Symbol    string  `json:"symbol,omitempty"`
	Policy    *Policy `json:"policy,omitempty"` // of a verdict, and of a drop by policy
	Protocol  string  `json:"protocol"`
	LatencyUs int64   `json:"latencyUs"` // -1 unknown
	Bytes     uint64  `json:"bytes"`
	Packets   uint64  `json:"packets"`
	Node      string  `json:"node"`
	Point     string  `json:"point"`
	Path      []Hop   `json:"path,omitempty"`
	TraceID   string  `json:"traceId,omitempty"`
}

// Policy is what policy said of a flow's connection.
type Policy struct {
	Verdict  string   `json:"verdict"`  // as of the flow: forwarded, dropped, audit (would have been dropped)
	Match    string   `json:"match"`    // what the rule that allowed looks at: none, L3-Only, L3-L4, L4-Only, all, L3-Proto, Proto-Only
	Rule     int      `json:"rule"`     // index of the rule that allowed in its policy's section, -1: none did
	Policies []string `json:"policies"` // "NetworkPolicy data/default-deny"; none if an exception allowed
	Text     string   `json:"text"`     // one line for a person
}

// Hop is one observation of a flow.
type Hop struct {
	Node  string `json:"node"`
	Point string `json:"point"`
	Time  int64  `json:"time"` // Unix microseconds
}

// FlowPage is a page of stored flows. Next is the value for before=, 0 at the end.
type FlowPage struct {
	Flows []Flow `json:"flows"`
	Next  int64  `json:"next,omitempty"`
}

// Trace is a distributed trace as a waterfall: each span below its caller, callers before what they call.
type Trace struct {
	ID         string      `json:"id"`         // 32 hexadecimal digits
	Start      int64       `json:"start"`      // of its first span, Unix microseconds
	DurationUs int64       `json:"durationUs"` // to the end of its last span
	Services   int         `json:"services"`
	Spans      []TraceSpan `json:"spans"`
	Truncated  bool        `json:"truncated,omitempty"` // there are more exchanges than are looked at
}

// TraceSpan is one side's view of an exchange.
type TraceSpan struct {
	ID         string `json:"id"`               // 16 hexadecimal digits, the same as in OTLP
	Parent     string `json:"parent,omitempty"` // may be a span of the program, which is not here
	Depth      int    `json:"depth"`            // of its row
	Side       string `json:"side"`             // client, server
	Service    string `json:"service"`          // node id
	Name       string `json:"name"`             // "GET /cart/{id}"
	What       string `json:"what"`             // "GET /cart/17"
	Protocol   string `json:"protocol"`
	StartUs    int64  `json:"startUs"` // since the start of the trace
	DurationUs int64  `json:"durationUs"`
	Failed     bool   `json:"failed,omitempty"`
	Status     string `json:"status"` // "200", "NXDOMAIN", "no response"
	Node       string `json:"node"`   // where it was timed
	Point      string `json:"point"`
	Flow       Flow   `json:"flow"` // the record behind it
}

// Detail explains a node or an edge.
type Detail struct {
	ID       string     `json:"id"`
	Step     int64      `json:"step"`
	Series   []Point    `json:"series"`
	Top      []TopRow   `json:"top"`   // operations: "GET /cart", "A redis.data.svc"
	Drops    []DropRow  `json:"drops"` // reasons
	Policies []Decision `json:"policies"`
	Slow     []Flow     `json:"slow"` // slowest exchanges
	Recent   []Flow     `json:"recent"`
}

// Point is one step of a Detail's series.
type Point struct {
	Time     int64   `json:"time"`
	Requests float64 `json:"requests"` // per second
	Errors   float64 `json:"errors"`
	Drops    float64 `json:"drops"`
	Bytes    float64 `json:"bytes"`
	P50      float64 `json:"p50"` // -1 unknown
	P95      float64 `json:"p95"`
	P99      float64 `json:"p99"`
}

// TopRow is one operation of an edge or node.
type TopRow struct {
	Protocol string  `json:"protocol"`
	Name     string  `json:"name"`
	Rate     float64 `json:"rate"`
	P95      float64 `json:"p95"`
	ErrorPct float64 `json:"errorPct"`
	Status   string  `json:"status"` // most frequent failing status, else "200", "NOERROR"
}

// DropRow is one reason of drops.
type DropRow struct {
	Reason string `json:"reason"`
	Symbol string `json:"symbol"`
	Count  uint64 `json:"count"`          // packets
	Hint   string `json:"hint,omitempty"` // one sentence for a person
}

// Ledger is the account of events: Produced = Delivered + sum of Lost.
type Ledger struct {
	Produced  uint64            `json:"produced"`
	Delivered uint64            `json:"delivered"`
	Lost      map[string]uint64 `json:"lost,omitempty"` // by stage
	Exact     bool              `json:"exact"`
	Nodes     int               `json:"nodes"`
	FlowsRate float64           `json:"flowsRate"` // records per second through the relay
}

// Status is what the page shows about Parallax itself.
type Status struct {
	Version string       `json:"version"`
	Storage string       `json:"storage"`         // URL without secrets
	Error   string       `json:"error,omitempty"` // storage or relay problem, one line
	Nodes   []NodeStatus `json:"nodes"`
	Ledger  Ledger       `json:"ledger"`
	Oldest  int64        `json:"oldest"` // first stored flow
}

// NodeStatus is one collector.
type NodeStatus struct {
	Name      string `json:"name"`
	State     string `json:"state"` // connected, gone
	Since     int64  `json:"since"`
	Flows     uint64 `json:"flows"`
	Lost      uint64 `json:"lost"`
	Delivered uint64 `json:"delivered"`
}
