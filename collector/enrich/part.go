package enrich

import (
	"strings"
	"sync"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/flow/meta"
)

// parts holds one endpoint for each unit, container or command of the node.
type parts struct {
	node, cluster string

	mu        sync.Mutex // only misses of the hot path's caches come here
	endpoints map[partKey]*flow.Endpoint
}

type partKey struct{ kind, name string }

const maxParts = 1 << 14 // a fuller table is begun anew: what is in use lives on

func (p *parts) endpoint(kind, name string) *flow.Endpoint {
	k := partKey{kind, strings.ToValidUTF8(name, "?")}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoints[k]
	if e == nil {
		if len(p.endpoints) >= maxParts {
			clear(p.endpoints)
		}
		e = &flow.Endpoint{
			Kind: flow.EndpointProcess, Identity: meta.IdentityHost, Workload: k.name, WorkloadKind: kind,
			NodeName: p.node, Cluster: p.cluster,
		}
		p.endpoints[k] = e
	}
	return e
}
