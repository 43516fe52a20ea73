package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parallax-flow/parallax/flow"
)

// randomize sets every exported field under v to a value that is not zero, so that a field which the codec doesn't carry
// makes a difference. Pointers are nil in one of nil cases; nil 0 means never.
func randomize(r *rand.Rand, v reflect.Value, orNil int) {
	switch v.Kind() {
	case reflect.Pointer:
		if orNil > 0 && r.IntN(orNil) == 0 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		randomize(r, v.Elem(), orNil)
	case reflect.Struct:
		for i := range v.NumField() {
			randomize(r, v.Field(i), orNil)
		}
	case reflect.Slice:
		n := 1 + r.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			randomize(r, v.Index(i), 0)
		}
	case reflect.Array:
		for i := range v.Len() {
			randomize(r, v.Index(i), 0)
		}
	case reflect.String:
		v.SetString(strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(40)))
	case reflect.Bool:
		v.SetBool(orNil == 0 || r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(1+r.Uint64()>>r.IntN(63)) * int64(1-2*r.IntN(2)))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(max(1, r.Uint64()>>r.IntN(64)&(1<<v.Type().Bits()-1)))
	default:
		panic(fmt.Sprintf("a field of kind %s: teach the codec and this test", v.Kind()))
	}
}

func randomBatch(seed uint64, flows, lost, orNil int) *flow.Batch {
	r := rand.New(rand.NewPCG(seed, 1))
	b := &flow.Batch{}
	for range flows {
		randomize(r, reflect.ValueOf(b.Next()).Elem(), orNil)
	}
	for range lost {
		var l flow.Lost
		randomize(r, reflect.ValueOf(&l).Elem(), orNil)
		b.Lost = append(b.Lost, l)
	}
	return b
}

func encode(t testing.TB, b *flow.Batch) []byte {
	t.Helper()
	data, err := NewEncoder().Encode(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// equal spares cmp the batches that are equal: it takes a second for a thousand flows.
func equal(t *testing.T, want, got *flow.Batch) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("-want +got:\n%s", cmp.Diff(want, got))
	}
}

func TestRoundTripCarriesEveryField(t *testing.T) {
	for _, tc := range []struct {
		name               string
		flows, lost, orNil int
	}{
		{"empty", 0, 0, 0},
		{"one of everything", 1, 1, 0},
		{"only lost", 0, 3, 0},
		{"a block", block, 0, 0},
		{"more than a block", block + 1, 2, 0},
		{"with absent parts", 1000, 5, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for seed := range uint64(20) {
				want := randomBatch(seed, tc.flows, tc.lost, tc.orNil)
				got := &flow.Batch{}
				if err := NewDecoder().Decode(encode(t, want), got); err != nil {
					t.Fatal(err)
				}
				equal(t, want, got)
			}
		})
	}
}

// What a flow without a policy's decision costs, and who can read it, does not change with version 2.
func TestBatchWithoutDecisionsIsVersion1(t *testing.T) {
	golden, err := os.ReadFile("testdata/v1.plx") // written by the last program that knew no other
	if err != nil {
		t.Fatal(err)
	}
	want := traffic(12, true)
	want.Lost = append(want.Lost, flow.Lost{Node: want.Flows[0].Node, Time: 5, Stage: flow.StageKernelRing, Reason: "full", Count: 7})
	e := NewEncoder()
	e.compress = false
	if data, err := e.Encode(nil, want); err != nil || !bytes.Equal(data, golden) {
		t.Errorf("%d bytes (%v) differ from version 1", len(data), err)
	}
	got := &flow.Batch{}
	if err := NewDecoder().Decode(golden, got); err != nil {
		t.Fatal(err)
	}
	equal(t, want, got)
}

func TestDecisions(t *testing.T) {
	denied := &flow.Decision{Rule: -1, Text: "ingress default deny", Policies: []flow.PolicyRef{{Kind: "NetworkPolicy", Namespace: "shop", Name: "a"}, {Name: "b"}}}
	want := &flow.Batch{Flows: []flow.Flow{{Policy: denied}, {}, {Policy: &flow.Decision{}}, {Policy: denied}, {Policy: &flow.Decision{Match: 6, Rule: 1 << 40}}}}
	data := encode(t, want)
	if data[len(magic)] != Version {
		t.Errorf("version %d", data[len(magic)])
	}
	got := &flow.Batch{}
	if err := NewDecoder().Decode(data, got); err != nil {
		t.Fatal(err)
	}
	equal(t, want, got)
	if got.Flows[0].Policy != got.Flows[3].Policy {
		t.Error("one decision became two")
	}
	many := &flow.Batch{Flows: []flow.Flow{{Policy: &flow.Decision{Policies: make([]flow.PolicyRef, MaxPolicies+1)}}}}
	got.Reset()
	if err := NewDecoder().Decode(encode(t, many), got); err != nil || len(got.Flows[0].Policy.Policies) != MaxPolicies {
		t.Errorf("a decision of too many policies: %v", err)
	}
	old := append([]byte(nil), data...)
	old[len(magic)] = versionPlain
	if err := NewDecoder().Decode(old, got); !errors.Is(err, ErrMalformed) {
		t.Errorf("a batch that lies about its version: %v", err)
	}
}

// Columns that are left out for being zero, and flows that follow each other without a reset in between.
func TestRoundTripOfZeros(t *testing.T) {
	want := &flow.Batch{Flows: make([]flow.Flow, 300)}
	want.Flows[299].L7 = &flow.L7{}
	got := &flow.Batch{}
	if err := NewDecoder().Decode(encode(t, want), got); err != nil {
		t.Fatal(err)
	}
	equal(t, want, got)
}

func TestOneEncoderAndDecoderForManyBatches(t *testing.T) {
	e, d := NewEncoder(), NewDecoder()
	for seed := range uint64(10) {
		for _, n := range []int{700, 3, 0, 130} {
			want := randomBatch(seed, n, n%4, 2)
			data, err := e.Encode([]byte("kept"), want)
			if err != nil || string(data[:4]) != "kept" {
				t.Fatal(err)
			}
			got := &flow.Batch{Flows: []flow.Flow{{Seq: 7}}}
			if err := d.Decode(data[4:], got); err != nil {
				t.Fatal(err)
			}
			want.Flows = append([]flow.Flow{{Seq: 7}}, want.Flows...)
			equal(t, want, got)
		}
	}
}

func TestEqualNamesAreSharedAcrossBatches(t *testing.T) {
	d := NewDecoder()
	var got flow.Batch
	for range 2 {
		// New pointers each time: what counts is the content.
		if err := d.Decode(encode(t, randomBatch(1, 1, 0, 0)), &got); err != nil {
			t.Fatal(err)
		}
	}
	a, b := &got.Flows[0], &got.Flows[1]
	if a.Src != b.Src || a.Dst != b.Dst || a.Node != b.Node || a.Drop != b.Drop || a.Policy != b.Policy {
		t.Error("equal endpoints, nodes, drops and decisions of two batches are not the same value")
	}
}

func TestInternTableIsBounded(t *testing.T) {
	in := newIntern[int]()
	for i := range maxInternEntries + 10 {
		in.put(fmt.Sprint(i), i)
	}
	if len(in.values) != 10 {
		t.Errorf("%d entries, want 10", len(in.values))
	}
	in.put(strings.Repeat("x", maxInternBytes), 1)
	in.put("y", 1)
	if len(in.values) != 1 || in.bytes != 1 {
		t.Errorf("%d entries of %d bytes, want 1 of 1", len(in.values), in.bytes)
	}
}

func TestEncodeRefusesWhatIsTooLarge(t *testing.T) {
	long := &flow.Endpoint{Name: strings.Repeat("x", MaxBody)}
	for name, b := range map[string]*flow.Batch{
		"flows": {Flows: make([]flow.Flow, MaxFlows+1)},
		"lost":  {Lost: make([]flow.Lost, MaxLost+1)},
		"bytes": {Flows: []flow.Flow{{Src: long}}},
	} {
		if data, err := NewEncoder().Encode([]byte("kept"), b); !errors.Is(err, ErrTooLarge) || string(data) != "kept" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeErrorsLeaveTheBatchAlone(t *testing.T) {
	good := encode(t, randomBatch(1, 200, 2, 3))
	newer := append([]byte(nil), good...)
	newer[3] = Version + 1
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":     {nil, ErrMalformed},
		"other magic": {append([]byte("XLP"), good[3:]...), ErrMalformed},
		"newer":       {newer, ErrVersion},
		"cut":         {good[:len(good)-1], ErrMalformed},
		"longer":      {append(append([]byte(nil), good...), 0), ErrMalformed},
	} {
		out := &flow.Batch{Flows: []flow.Flow{{Seq: 7}}, Lost: []flow.Lost{{Count: 7}}}
		if err := NewDecoder().Decode(tc.data, out); !errors.Is(err, tc.want) {
			t.Errorf("%s: error %v, want %v", name, err, tc.want)
		}
		if len(out.Flows) != 1 || len(out.Lost) != 1 {
			t.Errorf("%s: batch changed", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for seed := range uint64(4) {
		for _, compress := range []bool{false, true} {
			e := NewEncoder()
			e.compress = compress
			data, err := e.Encode(nil, randomBatch(seed, int(seed*50), int(seed), 2))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	golden, err := os.ReadFile("testdata/v1.plx")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(encode(f, decided(200)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got flow.Batch
		if NewDecoder().Decode(data, &got) != nil {
			return
		}
		// What was decoded is a batch like any other: it survives a round trip.
		again, err := NewEncoder().Encode(nil, &got)
		if errors.Is(err, ErrTooLarge) {
			return
		}
		var want flow.Batch
		if err := NewDecoder().Decode(again, &want); err != nil {
			t.Fatal(err)
		}
		equal(t, &want, &got)
	})
}
