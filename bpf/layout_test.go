package bpf

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// The Go types must have the size and the field offsets that the C types have.
func TestLayout(t *testing.T) {
	spec, err := loadTcx()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		v    any
		size uint32 // of the static assertions
	}{
		"plx_hdr": {Header{}, 8}, "plx_tuple": {Tuple{}, 44}, "plx_flow_event": {FlowEvent{}, 152},
		"plx_drop_event": {DropEvent{}, 80}, "plx_payload_event": {PayloadEvent{}, 88},
		"plx_flow_key": {FlowKey{}, 48}, "plx_flow": {FlowEntry{}, 120}, "plx_process": {Process{}, 20},
		"plx_policy_record": {PolicyRecord{}, 32}, "plx_policy_block": {PolicyBlock{}, 32}, "plx_policy_rule": {PolicyRule{}, 24},
		"plx_policy_service": {PolicyService{}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			var s *btf.Struct
			if err := spec.Types.TypeByName(name, &s); err != nil {
				t.Fatal(err)
			}
			typ := reflect.TypeOf(c.v)
			if s.Size != c.size || typ.Size() != uintptr(c.size) {
				t.Fatalf("size: C %d, Go %d, want %d", s.Size, typ.Size(), c.size)
			}
			for _, m := range s.Members {
				f, ok := typ.FieldByName(goName(m.Name))
				if !ok {
					t.Errorf("no field for %s", m.Name)
				} else if f.Offset != uintptr(m.Offset.Bytes()) {
					t.Errorf("offset of %s: C %d, Go %d", m.Name, m.Offset.Bytes(), f.Offset)
				}
			}
		})
	}
}

func goName(c string) string {
	var b strings.Builder
	for _, word := range strings.Split(c, "_") {
		if word != "" {
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// The constants are written twice, in C and in Go.
func TestConstants(t *testing.T) {
	inC := make(map[string]uint32)
	for _, file := range []string{"headers/event.h", "headers/flowtable.h", "headers/payload.h", "headers/policy.h"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:\s+|#define )(PLX_\w+)(?: =)? (?:(1) << )?(\d+)`).FindAllStringSubmatch(string(text), -1) {
			v, _ := strconv.ParseUint(m[3], 10, 32)
			if m[2] != "" {
				v = 1 << v
			}
			inC[m[1]] = uint32(v)
		}
	}
	for name, want := range map[string]any{
		"PLX_EVENT_VERSION": EventVersion, "PLX_EVENT_FLOW": EventFlow, "PLX_EVENT_DROP": EventDrop, "PLX_EVENT_PAYLOAD": EventPayload,
		"PLX_KIND_NEW": KindNew, "PLX_KIND_STATE": KindState, "PLX_KIND_UPDATE": KindUpdate, "PLX_KIND_CLOSE": KindClose,
		"PLX_KIND_DROP": KindDrop, "PLX_KIND_VERDICT": KindVerdict,
		"PLX_VERDICT_NONE": VerdictNone, "PLX_VERDICT_ALLOWED": VerdictAllowed, "PLX_VERDICT_DENIED": VerdictDenied, "PLX_VERDICT_AUDIT": VerdictAudit,
		"PLX_POLICY_AUDIT": PolicyAudit, "PLX_POLICY_SKIP_PODS": PolicySkipPods,
		"PLX_ROLE_NONE": uint32(RoleNone), "PLX_ROLE_ENDPOINT": uint32(RoleEndpoint), "PLX_ROLE_NETWORK": uint32(RoleNetwork),
		"PLX_ROLE_HOST": uint32(RoleHost), "PLX_ROLE_OVERLAY": uint32(RoleOverlay),
		"PLX_STAT_EVENTS": uint32(StatEvents), "PLX_STAT_LOST_RING": uint32(StatLostRing), "PLX_STAT_LOST_TABLE": uint32(StatLostTable),
		"PLX_STAT_PACKETS": uint32(StatPackets), "PLX_STAT_UNPARSED": uint32(StatUnparsed), "PLX_STAT_DROPS": uint32(StatDrops),
		"PLX_STAT_LOST_HINT": uint32(StatLostHint), "PLX_STAT_MAX": uint32(StatCount),
		"PLX_STATE_INIT_HI": StateInitHi, "PLX_STATE_SYN": StateSyn, "PLX_STATE_SYNACK": StateSynAck,
		"PLX_STATE_ESTABLISHED": StateEstablished, "PLX_STATE_FIN_INIT": StateFinInit, "PLX_STATE_FIN_RESP": StateFinResp,
		"PLX_STATE_CLOSED": StateClosed, "PLX_STATE_CLOSE_SENT": StateCloseSent, "PLX_STATE_ASKED_INIT": StateAskedInit,
		"PLX_STATE_ASKED_RESP": StateAskedResp, "PLX_STATE_PID_RESPONDER": StatePIDResponder, "PLX_STATE_INIT_EGRESS": StateInitEgress,
		"PLX_STATE_PASSED": StatePassed, "PLX_STATE_DECIDING": StateDeciding,
		"PLX_PAYLOAD_CAP": PayloadCap,
	} {
		got, ok := inC[name]
		if !ok || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: C %d (found %v), Go %v", name, got, ok, want)
		}
		delete(inC, name)
	}
	for name := range inC {
		if regexp.MustCompile(`^PLX_(EVENT|KIND|VERDICT|POLICY|ROLE|STAT|STATE)_`).MatchString(name) {
			t.Errorf("%s has no Go constant", name)
		}
	}
}
