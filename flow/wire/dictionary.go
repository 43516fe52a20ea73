package wire

import (
	"encoding/binary"

	"github.com/parallax-flow/parallax/flow"
)

// tables appends the dictionary. An IPv4 address takes 5 bytes, an IPv6 address 17.
func (e *Encoder) tables(dst []byte, version byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(e.addrs.values)))
	for i := range e.addrs.values {
		if a := &e.addrs.values[i]; a.Is4() {
			dst = append(append(dst, 4), a[12:]...)
		} else {
			dst = append(append(dst, 16), a[:]...)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.endpoints.values)))
	for _, v := range e.endpoints.values {
		dst = entry(dst, v, appendEndpoint)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.nodes.values)))
	for _, v := range e.nodes.values {
		dst = entry(dst, v, appendNode)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.drops.values)))
	for _, v := range e.drops.values {
		dst = entry(dst, v, appendDrop)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.processes.values)))
	for _, v := range e.processes.values {
		dst = entry(dst, v, appendProcess)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.strings.values)))
	for _, v := range e.strings.values {
		dst = appendString(dst, v)
	}
	if version == versionPlain {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.decisions.values)))
	for _, v := range e.decisions.values {
		dst = entry(dst, v, appendDecision)
	}
	return dst
}

// entry appends v with its length before it: the decoder looks the bytes up as a whole. The length is held in four bytes,
// because it is known only behind the entry.
func entry[T any](dst []byte, v T, put func([]byte, T) []byte) []byte {
	at := len(dst)
	dst = put(append(dst, 0, 0, 0, 0), v)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst
}

func appendEndpoint(dst []byte, p *flow.Endpoint) []byte {
	dst = append(dst, byte(p.Kind))
	dst = binary.AppendUvarint(dst, uint64(p.Identity))
	for _, s := range [...]string{p.Namespace, p.Pod, p.Workload, p.WorkloadKind, p.Name, p.NodeName, p.Cluster} {
		dst = appendString(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Labels)))
	for _, s := range p.Labels {
		dst = appendString(dst, s)
	}
	return dst
}

func appendNode(dst []byte, n *flow.Node) []byte {
	dst = appendString(dst, n.Name)
	dst = appendString(dst, n.Cluster)
	return binary.AppendUvarint(dst, n.Boot)
}

func appendDrop(dst []byte, d *flow.Drop) []byte {
	dst = appendString(dst, d.Reason)
	dst = appendString(dst, d.Symbol)
	return binary.AppendUvarint(dst, uint64(d.Code))
}

func appendProcess(dst []byte, p *flow.Process) []byte {
	return appendString(binary.AppendUvarint(dst, uint64(p.PID)), p.Comm)
}

func appendDecision(dst []byte, d *flow.Decision) []byte {
	dst = append(dst, byte(d.Match))
	dst = binary.AppendVarint(dst, int64(d.Rule))
	dst = appendString(dst, d.Text)
	policies := d.Policies[:min(len(d.Policies), MaxPolicies)]
	dst = binary.AppendUvarint(dst, uint64(len(policies)))
	for i := range policies {
		p := &policies[i]
		dst = appendString(dst, p.Kind)
		dst = appendString(dst, p.Namespace)
		dst = appendString(dst, p.Name)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}
