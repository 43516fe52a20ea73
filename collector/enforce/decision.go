package enforce

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// decisions knows rule numbers, those of today and the last maxFormer that went: records that name them may still be in
// the ring or come from connections that the sweep has yet to take.
type decisions struct {
	current atomic.Pointer[map[uint32]*flow.Decision]
	former  []uint32 // numbers that no policy has any more, in the order in which they went; owned by learn
	live    map[uint32]policy.RuleInfo
}

const maxFormer = 1 << 14

func (d *decisions) lookup(rule uint32) *flow.Decision {
	m := d.current.Load()
	if m == nil {
		return nil
	}
	return (*m)[rule]
}

// learn makes rules those of today. It is called before the kernel can name them.
func (d *decisions) learn(rules map[uint32]policy.RuleInfo) {
	next := make(map[uint32]*flow.Decision, len(rules)+len(d.former))
	if m := d.current.Load(); m != nil {
		maps.Copy(next, *m)
	}
	for id, info := range rules {
		if old := next[id]; old == nil || old.Text != info.Text || old.Match != info.Match {
			next[id] = info.Decision()
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.live)) {
		if _, stays := rules[id]; !stays {
			d.former = append(d.former, id)
		}
	}
	d.former = slices.DeleteFunc(d.former, func(id uint32) bool { _, back := rules[id]; return back })
	for len(d.former) > maxFormer {
		delete(next, d.former[0])
		d.former = d.former[1:]
	}
	d.live = rules
	d.current.Store(&next)
}
