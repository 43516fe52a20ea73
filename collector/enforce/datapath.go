package enforce

import (
	"errors"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/policy"
)

// Datapath is what holds the policy in the kernel.
type Datapath interface {
	// Loaded is closed when WritePolicy can be called.
	Loaded() <-chan struct{}

	// WritePolicy makes the changes of w in the order of its fields, each key at once, and has verdicts asked anew. No
	// decision that began before DropServices were gone goes on when the rest is dropped. At
	// the first failure it stops and returns an error, ErrFull where there was no room; what it wrote stays. Keys to
	// drop may be missing. ErrUnloaded: the datapath has gone, and all of its maps with it.
	WritePolicy(w *Write) error
}

// Errors of a Datapath.
var (
	ErrFull     = errors.New("no room in the kernel's table")
	ErrUnloaded = errors.New("the datapath is not loaded")
)

// Write is a policy.Changes for interfaces in place of endpoints.
type Write struct {
	Entries  []policy.EntryValue
	CIDRs    []policy.PrefixValue
	Peers    []policy.PeerValue
	Services []policy.ServiceValue
	Records  []RecordValue

	DropRecords  []uint32 // ifindex
	DropServices []policy.ServiceKey
	DropPeers    []flow.Addr
	DropCIDRs    []policy.Prefix
	DropEntries  []policy.Entry
}

// Record is what decides at an interface.
type Record struct {
	policy.Record
	Audit    bool // deny nothing
	SkipPods bool // policy.Options.BlocksSkipPods
}

// RecordValue is the Record of an interface.
type RecordValue struct {
	Ifindex uint32
	Record  Record
}

func (w *Write) empty() bool {
	return len(w.Entries)+len(w.CIDRs)+len(w.Peers)+len(w.Services)+len(w.Records)+
		len(w.DropRecords)+len(w.DropServices)+len(w.DropPeers)+len(w.DropCIDRs)+len(w.DropEntries) == 0
}
