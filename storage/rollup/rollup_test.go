package rollup

import (
	"testing"

	"github.com/parallax-flow/parallax/flow"
)

func TestPort(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    flow.Flow
		want uint16
	}{
		{"service", flow.Flow{SrcPort: 40000, DstPort: 443}, 443},
		{"dynamic", flow.Flow{SrcPort: 40000, DstPort: 45000}, 0},
		{"dynamic, recognised", flow.Flow{DstPort: 50051, L7: &flow.L7{}}, 50051},
		{"dropped reply", flow.Flow{Kind: flow.KindDrop, Drop: &flow.Drop{Reason: "NO_SOCKET"}, Reply: true, SrcPort: 443, DstPort: 40000}, 443},
		{"denied reply", flow.Flow{Kind: flow.KindDrop, Drop: &flow.Drop{Reason: flow.DropPolicyDenied}, Reply: true, SrcPort: 40000, DstPort: 443}, 443},
		{"ICMP", flow.Flow{Proto: flow.ProtoICMP}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Port(&tc.f); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}
