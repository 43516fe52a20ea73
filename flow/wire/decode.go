package wire

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/parallax-flow/parallax/flow"
)

// Decoder turns bytes into batches. Equal endpoints, nodes, drops, processes, decisions and strings are the same value in all
// batches of one Decoder, as far as its bounded tables reach. Not safe for concurrent use.
type Decoder struct {
	body      []byte
	endpoints intern[*flow.Endpoint]
	nodes     intern[*flow.Node]
	drops     intern[*flow.Drop]
	processes intern[*flow.Process]
	decisions intern[*flow.Decision]
	strings   intern[string]
	batch     dictionary
	time      int64
	seq       uint64
	ports     uint32
	scratch   [block]uint64
}

// dictionary is that of the batch in work; index 0 is the zero value.
type dictionary struct {
	addrs     []flow.Addr
	endpoints []*flow.Endpoint
	nodes     []*flow.Node
	drops     []*flow.Drop
	processes []*flow.Process
	decisions []*flow.Decision
	strings   []string
}

// NewDecoder returns a Decoder.
func NewDecoder() *Decoder {
	return &Decoder{
		endpoints: newIntern[*flow.Endpoint](), nodes: newIntern[*flow.Node](),
		drops: newIntern[*flow.Drop](), processes: newIntern[*flow.Process](), decisions: newIntern[*flow.Decision](), strings: newIntern[string](),
	}
}

// Decode appends the batch in data to out. data is not kept. On error, which wraps ErrMalformed or ErrVersion, out holds
// what it held before.
func (d *Decoder) Decode(data []byte, out *flow.Batch) error {
	version, body, err := d.open(data)
	if err != nil {
		return err
	}
	nf, nl := len(out.Flows), len(out.Lost)
	if err := d.decode(&reader{buf: body}, version, out); err != nil {
		clear(out.Flows[nf:])
		out.Flows, out.Lost = out.Flows[:nf], out.Lost[:nl]
		return err
	}
	return nil
}

// open checks the header and returns the version and the body, which is good until the next call.
func (d *Decoder) open(data []byte) (version byte, body []byte, err error) {
	if len(data) < len(magic)+2 || string(data[:len(magic)]) != magic {
		return 0, nil, fmt.Errorf("batch header: %w", ErrMalformed)
	}
	version, compression := data[len(magic)], data[len(magic)+1]
	if version > Version {
		return 0, nil, fmt.Errorf("batch version %d: %w", version, ErrVersion)
	}
	size, n := binary.Uvarint(data[len(magic)+2:])
	if version == 0 || n <= 0 || size > MaxBody {
		return 0, nil, fmt.Errorf("batch header: %w", ErrMalformed)
	}
	rest := data[len(magic)+2+n:]
	switch compression {
	case compressNone:
		if uint64(len(rest)) != size {
			return 0, nil, fmt.Errorf("batch length: %w", ErrMalformed)
		}
		return version, rest, nil
	case compressS2:
		if got, err := s2.DecodedLen(rest); err != nil || uint64(got) != size {
			return 0, nil, fmt.Errorf("batch length: %w", ErrMalformed)
		}
		body, err := s2.Decode(d.body[:cap(d.body)], rest)
		if err != nil {
			return 0, nil, fmt.Errorf("decompress batch: %w", ErrMalformed)
		}
		d.body = body
		return version, body, nil
	}
	return 0, nil, fmt.Errorf("batch compression %d: %w", compression, ErrVersion)
}

func (d *Decoder) decode(r *reader, version byte, out *flow.Batch) error {
	flows, lost := r.count(MaxFlows), r.count(MaxLost)
	d.tables(r, version)
	c := columns{d: d}
	known := numColumns
	if version == versionPlain {
		known = numPlainColumns
		c.absent[colPolicy] = true
	}
	for i := range known {
		c.cols[i] = r.bytes(r.uvarint())
		c.absent[i] = len(c.cols[i]) == 0
	}
	// The column of kinds is never left out: a message has at least one byte for each flow that is allocated for it.
	if r.bad || len(c.cols[colKind]) != flows {
		return fmt.Errorf("batch tables: %w", ErrMalformed)
	}
	n := len(out.Flows)
	out.Flows = slices.Grow(out.Flows, flows)[:n+flows]
	clear(out.Flows[n:])
	d.time, d.seq, d.ports = 0, 0, 0
	c.l7s()
	for rest := out.Flows[n:]; len(rest) > 0 && !c.bad; {
		k := min(block, len(rest))
		c.flows(rest[:k])
		rest = rest[k:]
	}
	if !c.done() {
		return fmt.Errorf("batch columns: %w", ErrMalformed)
	}
	for range lost {
		out.Lost = append(out.Lost, flow.Lost{
			Node: at(d.batch.nodes, r.uvarint(), &r.bad), Time: r.varint(), Stage: at(d.batch.strings, r.uvarint(), &r.bad),
			Reason: at(d.batch.strings, r.uvarint(), &r.bad), Count: r.uvarint(),
		})
	}
	if r.bad || len(r.buf) > 0 {
		return fmt.Errorf("batch end: %w", ErrMalformed)
	}
	return nil
}

// tables reads the dictionary of the batch.
func (d *Decoder) tables(r *reader, version byte) {
	b := &d.batch
	b.addrs = append(b.addrs[:0], flow.Addr{})
	for range r.count(len(r.buf)) {
		var a flow.Addr
		switch r.byte() {
		case 4:
			a[10], a[11] = 0xff, 0xff
			copy(a[12:], r.bytes(4))
		case 16:
			copy(a[:], r.bytes(16))
		default:
			r.bad = true
		}
		if r.bad {
			return
		}
		b.addrs = append(b.addrs, a)
	}
	b.endpoints = entries(r, b.endpoints, &d.endpoints, parseEndpoint)
	b.nodes = entries(r, b.nodes, &d.nodes, parseNode)
	b.drops = entries(r, b.drops, &d.drops, parseDrop)
	b.processes = entries(r, b.processes, &d.processes, parseProcess)
	b.strings = append(b.strings[:0], "")
	for range r.count(len(r.buf)) {
		v := r.bytes(r.uvarint())
		if r.bad {
			return
		}
		s, ok := d.strings.get(v)
		if !ok {
			s = string(v)
			d.strings.put(s, s)
		}
		b.strings = append(b.strings, s)
	}
	b.decisions = append(b.decisions[:0], nil)
	if version > versionPlain {
		b.decisions = entries(r, b.decisions, &d.decisions, parseDecision)
	}
}

// entries reads a table whose entries are kept across batches by their bytes.
func entries[T any](r *reader, dst []*T, in *intern[*T], parse func(string) (*T, bool)) []*T {
	dst = append(dst[:0], nil)
	for range r.count(len(r.buf)) {
		size := r.bytes(4)
		if r.bad {
			return dst
		}
		raw := r.bytes(uint64(binary.LittleEndian.Uint32(size)))
		if r.bad {
			return dst
		}
		v, ok := in.get(raw)
		if !ok {
			key := string(raw)
			if v, ok = parse(key); !ok {
				r.bad = true
				return dst
			}
			in.put(key, v)
		}
		dst = append(dst, v)
	}
	return dst
}

// at returns table[i] and sets bad if there is none.
func at[T any](table []T, i uint64, bad *bool) T {
	if i >= uint64(len(table)) {
		*bad = true
		i = 0
	}
	return table[i]
}

// The parsers below cut their strings out of s, the key that the intern table holds anyway.

func parseEndpoint(s string) (*flow.Endpoint, bool) {
	r := stringReader{s: s}
	p := &flow.Endpoint{Kind: flow.EndpointKind(r.byte()), Identity: uint32(r.limited(1<<32 - 1))}
	for _, f := range [...]*string{&p.Namespace, &p.Pod, &p.Workload, &p.WorkloadKind, &p.Name, &p.NodeName, &p.Cluster} {
		*f = r.string()
	}
	if n := r.limited(uint64(len(r.s))); n > 0 {
		p.Labels = make([]string, n)
		for i := range p.Labels {
			p.Labels[i] = r.string()
		}
	}
	return p, r.done()
}

func parseNode(s string) (*flow.Node, bool) {
	r := stringReader{s: s}
	n := &flow.Node{Name: r.string(), Cluster: r.string(), Boot: r.uvarint()}
	return n, r.done()
}

func parseDrop(s string) (*flow.Drop, bool) {
	r := stringReader{s: s}
	d := &flow.Drop{Reason: r.string(), Symbol: r.string(), Code: uint32(r.limited(1<<32 - 1))}
	return d, r.done()
}

func parseProcess(s string) (*flow.Process, bool) {
	r := stringReader{s: s}
	p := &flow.Process{PID: uint32(r.limited(1<<32 - 1)), Comm: r.string()}
	return p, r.done()
}

// minRef is the least number of bytes of an encoded reference to a policy.
const minRef = 3

func parseDecision(s string) (*flow.Decision, bool) {
	r := stringReader{s: s}
	d := &flow.Decision{Match: flow.PolicyMatch(r.byte()), Rule: int(unzigzag(r.uvarint())), Text: r.string()}
	if n := r.limited(uint64(min(len(r.s)/minRef, MaxPolicies))); n > 0 {
		d.Policies = make([]flow.PolicyRef, n)
		for i := range d.Policies {
			d.Policies[i] = flow.PolicyRef{Kind: r.string(), Namespace: r.string(), Name: r.string()}
		}
	}
	return d, r.done()
}
