package policy

import (
	"net/netip"
	"testing"

	"github.com/parallax-flow/parallax/flow"
)

// TestServiceNumbers finds numbers that are taken.
func TestServiceNumbers(t *testing.T) {
	k := ServiceKey{Addr: flow.AddrFrom(netip.MustParseAddr("10.96.0.1")), Port: 80, Proto: flow.ProtoTCP}
	taken := make(map[uint32]bool)
	first := k.number(taken)
	if again := k.number(make(map[uint32]bool)); again != first {
		t.Errorf("%d, then %d", first, again)
	}
	if second := k.number(taken); second == first || !taken[second] || len(taken) != 2 {
		t.Errorf("%d is taken, and given again: %d", first, second)
	}
}
