package flow

import "testing"

func TestPolicyRef(t *testing.T) {
	for _, tt := range []struct {
		ref          PolicyRef
		text, ofKind string
	}{
		{PolicyRef{"NetworkPolicy", "shop", "a"}, "NetworkPolicy shop/a", "shop/a"},
		{PolicyRef{"CiliumClusterwideNetworkPolicy", "", "a"}, "CiliumClusterwideNetworkPolicy a", "a"},
		{PolicyRef{"", "shop", "a"}, "shop/a", "shop/a"},
	} {
		if tt.ref.String() != tt.text || tt.ref.Path() != tt.ofKind {
			t.Errorf("got %q, %q, want %q, %q", tt.ref.String(), tt.ref.Path(), tt.text, tt.ofKind)
		}
		if got := ParsePolicyRef(tt.text); got != tt.ref {
			t.Errorf("%q is read as %+v", tt.text, got)
		}
	}
}

func TestDropped(t *testing.T) {
	denied, kernel := &Drop{Reason: DropPolicyDenied}, &Drop{Reason: "NO_SOCKET"}
	for _, tt := range []struct {
		name     string
		f        Flow
		want     uint64
		byKernel bool
	}{
		{"kernel", Flow{Kind: KindDrop, Verdict: VerdictDropped, Drop: kernel, Packets: 1}, 1, true},
		{"policy", Flow{Kind: KindDrop, Verdict: VerdictDropped, Drop: denied, Packets: 3, ReplyPackets: 2}, 5, false},
		{"verdict", Flow{Kind: KindVerdict, Verdict: VerdictDropped, Drop: denied}, 0, false},
		{"new", Flow{Kind: KindNew, Verdict: VerdictForwarded, Packets: 1}, 0, false},
	} {
		if got := tt.f.Dropped(); got != tt.want {
			t.Errorf("%s: %d dropped, want %d", tt.name, got, tt.want)
		}
		if got := tt.f.Drop.ByKernel(); got != tt.byKernel {
			t.Errorf("%s: by the kernel: %v", tt.name, got)
		}
	}
}

// The words are those of Cilium's monitor.PolicyMatchType.
func TestPolicyMatchNames(t *testing.T) {
	want := []string{"none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only"}
	for m, name := range want {
		if got := PolicyMatch(m).String(); got != name {
			t.Errorf("%d: got %q, want %q", m, got, name)
		}
	}
	if int(policyMatchCount) != len(want) || policyMatchCount.String() != "unknown" {
		t.Error("a match has no test")
	}
}
