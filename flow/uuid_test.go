package flow

import "testing"

func TestUUIDIsReversible(t *testing.T) {
	for _, tt := range []struct{ boot, seq uint64 }{
		{1, 1}, {0xffff_ffff_ffff_ffff, 1<<58 - 1}, {0x0123_4567_89ab_cdef, 42}, {0xf, 1 << 57}, {0xfff0, 3},
	} {
		f := Flow{Node: &Node{Boot: tt.boot}, Seq: tt.seq}
		boot, seq, err := ParseUUID(f.UUID())
		if err != nil || boot != tt.boot || seq != tt.seq {
			t.Errorf("%x/%x: %s gives %x/%x, %v", tt.boot, tt.seq, f.UUID(), boot, seq, err)
		}
	}
	if id := (&Flow{Seq: 1}).UUID(); id != "" {
		t.Errorf("without a node: %q", id)
	}
	for _, s := range []string{"", "x", "0123", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "01234567-89ab-8cde-bc00-00000000002g"} {
		if _, _, err := ParseUUID(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
