package clickhouse

import (
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/storage/rollup"
)

// table is a group of LowCardinality(String) columns whose rows are the same few things: each thing is one entry of every
// dictionary, and the columns share the keys.
type table[K comparable] struct {
	index   map[K]uint32
	keys    []uint32
	keys8   []uint8
	keys16  []uint16
	columns []proto.ColLowCardinalityRaw
}

func newTable[K comparable](columns int) *table[K] {
	t := &table[K]{index: make(map[K]uint32), columns: make([]proto.ColLowCardinalityRaw, columns)}
	for i := range t.columns {
		t.columns[i].Index = new(proto.ColStr)
	}
	return t
}

// append adds a row. If it reports true the thing is new and describe has to follow.
func (t *table[K]) append(k K) (isNew bool) {
	i, ok := t.index[k]
	if !ok {
		i = uint32(len(t.index))
		t.index[k] = i
	}
	t.keys = append(t.keys, i)
	return !ok
}

func (t *table[K]) describe(values ...string) {
	for i, v := range values {
		t.columns[i].Index.(*proto.ColStr).Append(v)
	}
}

// finish gives the columns their keys, in as few bytes as they need.
func (t *table[K]) finish() {
	key := proto.KeyUInt32
	switch {
	case len(t.index) <= 1<<8:
		key = proto.KeyUInt8
		t.keys8 = t.keys8[:0]
		for _, k := range t.keys {
			t.keys8 = append(t.keys8, uint8(k))
		}
	case len(t.index) <= 1<<16:
		key = proto.KeyUInt16
		t.keys16 = t.keys16[:0]
		for _, k := range t.keys {
			t.keys16 = append(t.keys16, uint16(k))
		}
	}
	for i := range t.columns {
		c := &t.columns[i]
		c.Key, c.Keys8, c.Keys16, c.Keys32 = key, t.keys8, t.keys16, t.keys
	}
}

func (t *table[K]) reset() {
	clear(t.index)
	t.keys = t.keys[:0]
}

// words is one LowCardinality(String) column of any strings.
type words struct{ *table[string] }

func (w words) append(s string) {
	if w.table.append(s) {
		w.describe(s)
	}
}

// appendBytes is append for bytes that change after the call. It allocates only for a string that is new.
func (w words) appendBytes(b []byte) {
	if i, ok := w.index[string(b)]; ok {
		w.keys = append(w.keys, i)
		return
	}
	w.append(string(b))
}

// endpoints is the columns of one side.
type endpoints struct {
	*table[*flow.Endpoint]
	identity proto.ColUInt32
}

// endpointColumns are the names that describe an endpoint, without the side's prefix, in the order of describe.
var endpointColumns = []string{"group", "name", "kind", "endpoint", "namespace", "pod", "workload", "workload_kind", "host", "node", "cluster", "labels"}

func newEndpoints(prefix string, add func(string, proto.ColInput)) *endpoints {
	e := &endpoints{table: newTable[*flow.Endpoint](len(endpointColumns))}
	for i, name := range endpointColumns {
		add(prefix+name, &e.columns[i])
	}
	add(prefix+"identity", &e.identity)
	return e
}

var noEndpoint = new(flow.Endpoint)

func (c *endpoints) append(e *flow.Endpoint) {
	if e == nil {
		e = noEndpoint
	}
	c.identity.Append(e.Identity)
	if !c.table.append(e) {
		return
	}
	group, name := e.Key()
	c.describe(group, name, rollup.Kind(e), e.Kind.String(), e.Namespace, e.Pod, e.Workload, e.WorkloadKind, e.Name, e.NodeName, e.Cluster,
		strings.Join(e.Labels, "\n"))
}
