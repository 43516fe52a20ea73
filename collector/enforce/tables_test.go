package enforce_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/collector/enforce"
	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// tables are a datapath in memory.
type tables struct {
	mu       sync.Mutex
	loaded   chan struct{}
	room     int  // keys of entries, 0: any number
	old      bool // a full table does not take another value of a key, as tries before Linux 6.13
	refuse   int  // so many of the next writes fail at once
	spare    int  // but so many before them do not
	entries  map[policy.Entry]uint32
	cidrs    map[policy.Prefix]uint32
	peers    map[flow.Addr]uint32
	services map[policy.ServiceKey]uint32
	records  map[uint32]enforce.Record
	writes   int
}

func newTables() *tables {
	d := &tables{
		loaded: make(chan struct{}), entries: map[policy.Entry]uint32{}, cidrs: map[policy.Prefix]uint32{},
		peers: map[flow.Addr]uint32{}, services: map[policy.ServiceKey]uint32{}, records: map[uint32]enforce.Record{},
	}
	close(d.loaded)
	return d
}

func (d *tables) Loaded() <-chan struct{} { return d.loaded }

func (d *tables) WritePolicy(w *enforce.Write) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	switch {
	case d.spare > 0:
		d.spare--
	case d.refuse > 0:
		d.refuse--
		return errors.New("refused")
	}
	for _, e := range w.Entries {
		_, there := d.entries[e.Key]
		if d.room > 0 && len(d.entries) >= d.room && (d.old || !there) {
			return fmt.Errorf("%w rules", enforce.ErrFull)
		}
		d.entries[e.Key] = e.Rule
	}
	for _, e := range w.CIDRs {
		d.cidrs[e.Key] = e.Set
	}
	for _, e := range w.Peers {
		d.peers[e.Addr] = e.Identity
	}
	for _, e := range w.Services {
		d.services[e.Key] = e.Number
	}
	for _, e := range w.Records {
		d.records[e.Ifindex] = e.Record
	}
	for _, k := range w.DropRecords {
		delete(d.records, k)
	}
	for _, k := range w.DropServices {
		delete(d.services, k)
	}
	for _, k := range w.DropPeers {
		delete(d.peers, k)
	}
	for _, k := range w.DropCIDRs {
		delete(d.cidrs, k)
	}
	for _, k := range w.DropEntries {
		delete(d.entries, k)
	}
	return nil
}

// holds compares what was written with what it should be.
func (d *tables) holds(t *testing.T, want *policy.Compiled) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, diff := range []string{cmp.Diff(want.Entries, d.entries), cmp.Diff(want.CIDRs, d.cidrs), cmp.Diff(want.Peers, d.peers), cmp.Diff(want.Services, d.services)} {
		if diff != "" {
			t.Error(diff)
		}
	}
}
