package filter

import (
	"fmt"
	"strings"

	"github.com/parallax-flow/parallax/flow"
)

// matchEdge matches the connection's direction, whatever way the packets of the record went.
func matchEdge(values []string) (match, error) {
	type node struct{ group, name string }
	edges := make([][2]node, len(values))
	for i, v := range values {
		src, dst, ok := strings.Cut(v, ">")
		srcGroup, srcName, ok1 := strings.Cut(src, "/")
		dstGroup, dstName, ok2 := strings.Cut(dst, "/")
		if !ok || !ok1 || !ok2 {
			return nil, fmt.Errorf("%q is not group/name>group/name", v)
		}
		edges[i] = [2]node{{srcGroup, srcName}, {dstGroup, dstName}}
	}
	is := func(e *flow.Endpoint, n node) bool { return keyName(e) == n.name && inGroup(e, n.group) }
	return func(f *flow.Flow, _ bool) bool {
		reverse := f.Drop.ByKernel() && f.Reply // a dropped reply's sender is the responder
		for _, e := range edges {
			if is(source(f, reverse), e[0]) && is(source(f, !reverse), e[1]) {
				return true
			}
		}
		return false
	}, nil
}
