package wire

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFramesRoundTrip(t *testing.T) {
	hello := &Hello{Node: "n", Cluster: "c", Boot: 1 << 63, Version: "v1", First: 5, Acked: 1 << 40}
	if got, err := ParseHello(AppendHello(nil, hello)); err != nil || *got != *hello {
		t.Errorf("hello: %v, %v", got, err)
	}
	counters := Counters{Produced: 1 << 50, Lost: map[string]uint64{"kernel.ring": 1, "collector.publish": 1 << 33}}
	if got, err := ParseCounters(AppendCounters(nil, &counters)); err != nil || !cmp.Equal(*got, counters) {
		t.Errorf("counters: %v, %v", got, err)
	}
	batch := &Batch{Counters: counters, Number: 9, Flows: 3, Data: []byte("data")}
	if got, err := ParseBatch(AppendBatch(nil, batch)); err != nil || !cmp.Equal(got, batch) {
		t.Errorf("batch: %v, %v", got, err)
	}
	if got, err := ParseAck(AppendAck(nil, 77)); err != nil || got != 77 {
		t.Errorf("ack: %v, %v", got, err)
	}
}

func TestHelloErrors(t *testing.T) {
	newer := AppendHello(nil, &Hello{Node: "n", Boot: 1, First: 1})
	newer[1]++
	for name, tc := range map[string]struct {
		frame []byte
		want  error
	}{
		"nothing":  {nil, ErrMalformed},
		"newer":    {newer, ErrVersion},
		"no node":  {AppendHello(nil, &Hello{Boot: 1, First: 1}), ErrMalformed},
		"no boot":  {AppendHello(nil, &Hello{Node: "n", First: 1}), ErrMalformed},
		"first 0":  {AppendHello(nil, &Hello{Node: "n", Boot: 1}), ErrMalformed},
		"an ack":   {AppendAck(nil, 1), ErrMalformed},
		"trailing": {append(AppendHello(nil, &Hello{Node: "n", Boot: 1, First: 1}), 0), ErrMalformed},
	} {
		if _, err := ParseHello(tc.frame); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(AppendHello(nil, &Hello{Node: "n", Boot: 1, First: 1}))
	f.Add(AppendBatch(nil, &Batch{Number: 1, Counters: Counters{Lost: map[string]uint64{"a": 1}}}))
	f.Add(AppendCounters(nil, &Counters{Produced: 1}))
	f.Add(AppendAck(nil, 1))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if h, err := ParseHello(frame); err == nil {
			if again, err := ParseHello(AppendHello(nil, h)); err != nil || *again != *h {
				t.Fatal(again, err)
			}
		}
		if b, err := ParseBatch(frame); err == nil {
			if again, err := ParseBatch(AppendBatch(nil, b)); err != nil || !cmp.Equal(again, b) {
				t.Fatal(again, err)
			}
		}
		if c, err := ParseCounters(frame); err == nil {
			if again, err := ParseCounters(AppendCounters(nil, c)); err != nil || !cmp.Equal(again, c) {
				t.Fatal(again, err)
			}
		}
		_, _ = ParseAck(frame)
	})
}
