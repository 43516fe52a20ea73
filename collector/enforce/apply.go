package enforce

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parallax-flow/parallax/policy"
)

// revisions say which news something is of.
type revisions struct{ inputs, owners uint64 }

// apply puts what is known now into force. It returns an error only where another attempt is of no use.
func (e *Enforcer) apply() error {
	owned, at := e.owners.current()
	policies, objects, revision := e.inputs.current()
	began := time.Now()
	var err error
	if e.inForce == nil || revision != e.compiled {
		err = e.renew(policy.Input{Policies: policies, Inventory: policy.FromMeta(objects), Node: e.cfg.Node, Options: e.cfg.Options}, owned)
		if err == nil {
			e.compiled = revision
		}
	} else {
		err = e.write(e.inForce, owned)
	}
	if errors.Is(err, ErrUnloaded) {
		return err
	}
	e.done = revisions{revision, at}
	e.tell(err, len(policies), owned, began)
	if !e.attempted {
		e.attempted = true
		close(e.ready)
	}
	return nil
}

// renew goes from the input in force to next.
func (e *Enforcer) renew(next policy.Input, owned map[uint32]policy.EndpointKey) error {
	path := []policy.Input{next}
	if e.inForce != nil {
		path = policy.Path(e.input, next)
	}
	for _, in := range path {
		began := time.Now()
		compiled := policy.Compile(in)
		e.mu.Lock()
		e.stats.Compiles++
		e.stats.LastCompile = time.Since(began)
		e.mu.Unlock()
		e.decisions.learn(compiled.Rules)
		if err := e.write(compiled, owned); err != nil {
			if e.inForce != nil {
				e.decisions.learn(e.inForce.Rules)
			}
			return err
		}
		e.input = in
	}
	return nil
}

// write makes the kernel hold compiled and the records of the owned interfaces, or what it held before.
func (e *Enforcer) write(compiled *policy.Compiled, owned map[uint32]policy.EndpointKey) error {
	records := make(map[uint32]Record, len(owned))
	for ifindex, key := range owned {
		if r, bound := compiled.Endpoints[key]; bound {
			records[ifindex] = Record{Record: r, Audit: e.cfg.Mode == Audit, SkipPods: compiled.SkipPods}
		}
	}
	was := e.inForce
	if was == nil {
		was = policy.Nothing()
	}
	w := between(policy.Diff(was, compiled), e.records, records)
	if !w.empty() {
		if err := e.path.WritePolicy(&w); err != nil {
			if back := e.takeBack(was, compiled, records); back != nil {
				err = fmt.Errorf("%w; what was written could not be taken back: %w", err, back)
			}
			return err
		}
		e.mu.Lock()
		e.stats.Writes++
		e.mu.Unlock()
	}
	e.inForce, e.records = compiled, records
	return nil
}

// takeBack undoes as much of the way to the given state as was written. Kernels before 6.13 do not change the value of a
// key in a full trie (kernel/bpf/lpm_trie.c): then room is made first, and the rest written again.
func (e *Enforcer) takeBack(was, compiled *policy.Compiled, records map[uint32]Record) error {
	back := between(policy.Undo(was, compiled), records, e.records)
	err := e.path.WritePolicy(&back)
	if err == nil || errors.Is(err, ErrUnloaded) {
		return err
	}
	room := Write{DropRecords: back.DropRecords, DropServices: back.DropServices, DropPeers: back.DropPeers, DropCIDRs: back.DropCIDRs, DropEntries: back.DropEntries}
	if err := e.path.WritePolicy(&room); err != nil {
		return e.unknown(was, compiled, records, err)
	}
	if err := e.path.WritePolicy(&back); err != nil {
		return e.unknown(was, compiled, records, err)
	}
	return nil
}

// unknown notes that the kernel holds any of two states' keys with any of their values: the next write sets all of them.
func (e *Enforcer) unknown(a, b *policy.Compiled, records map[uint32]Record, err error) error {
	e.inForce, e.compiled = policy.Unknown(a, b), ^uint64(0)
	e.records = maps.Clone(e.records)
	if e.records == nil {
		e.records = make(map[uint32]Record)
	}
	for ifindex := range records {
		e.records[ifindex] = Record{Record: policy.Record{Identity: ^uint32(0)}} // equal to none
	}
	return err
}

// between is how the kernel gets from one state to another.
func between(c policy.Changes, had, want map[uint32]Record) Write {
	w := Write{
		Entries: c.Entries, CIDRs: c.CIDRs, Peers: c.Peers, Services: c.Services,
		DropServices: c.DropServices, DropPeers: c.DropPeers, DropCIDRs: c.DropCIDRs, DropEntries: c.DropEntries,
	}
	for _, ifindex := range slices.Sorted(maps.Keys(want)) {
		if r, there := had[ifindex]; !there || r != want[ifindex] {
			w.Records = append(w.Records, RecordValue{ifindex, want[ifindex]})
		}
	}
	for _, ifindex := range slices.Sorted(maps.Keys(had)) {
		if _, stays := want[ifindex]; !stays {
			w.DropRecords = append(w.DropRecords, ifindex)
		}
	}
	return w
}

// release lets all traffic pass.
func (e *Enforcer) release() {
	w := Write{DropRecords: slices.Sorted(maps.Keys(e.records))}
	e.records = nil
	if w.empty() {
		return
	}
	if err := e.path.WritePolicy(&w); err != nil && !errors.Is(err, ErrUnloaded) {
		e.cfg.Logger.Error("policy may still be enforced at interfaces", "error", err)
	}
}
