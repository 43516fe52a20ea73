package storage

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parallax-flow/parallax/flow"
	"github.com/parallax-flow/parallax/storage/memory"
)

// flaky is a database that fails as often as it is told to, before or after it stored.
type flaky struct {
	*memory.Store
	mu      sync.Mutex
	fail    int
	after   bool
	batches []int
	stored  map[string]int // flows by token
}

func (f *flaky) Write(ctx context.Context, flows []flow.Flow, token string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batches = append(f.batches, len(flows))
	if f.fail == 0 || f.after {
		f.stored[token] = len(flows)
	}
	if f.fail > 0 {
		f.fail--
		return errors.New("no answer")
	}
	return ctx.Err()
}

func (f *flaky) sum() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.stored {
		n += v
	}
	return n
}

func TestWriter(t *testing.T) {
	node := &flow.Node{Name: "n1"}
	flows := func(n int) []flow.Flow {
		out := make([]flow.Flow, n)
		for i := range out {
			out[i].Node = node
		}
		return out
	}
	for _, tc := range []struct {
		name                string
		config              WriterConfig
		fail                int
		after               bool
		add                 []int
		wait                time.Duration // before the end
		stored, lost, waits uint64        // waits: after wait, before the end
	}{
		{name: "by age", add: []int{10}, wait: 1100 * time.Millisecond, stored: 10},
		{name: "by size", config: WriterConfig{Batch: 100, Age: time.Hour}, add: []int{250}, wait: time.Millisecond, stored: 250, waits: 50},
		{name: "at the end", config: WriterConfig{Age: time.Hour}, add: []int{10}, stored: 10, waits: 10},
		{name: "queue full", config: WriterConfig{Queue: 100, Age: time.Hour}, add: []int{80, 50}, stored: 100, lost: 30, waits: 100},
		{name: "repeated", fail: 3, add: []int{10}, wait: 10 * time.Second, stored: 10},
		{name: "answer lost", fail: 3, after: true, add: []int{10}, wait: 10 * time.Second, stored: 10},
		{name: "given up", config: WriterConfig{RetryFor: 5 * time.Second}, fail: 1000, add: []int{10}, wait: 10 * time.Second, lost: 10},
		{name: "away for nine minutes", fail: 50, add: []int{10, 10}, wait: 9 * time.Minute, stored: 20},
		{name: "away at the end", fail: 1000, add: []int{10}, lost: 10, waits: 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := &flaky{Store: memory.New(1), fail: tc.fail, after: tc.after, stored: make(map[string]int)}
				var reported uint64
				tc.config.Lost = func(l flow.Lost) {
					if l.Node != node || l.Stage != flow.StageStorage || l.Reason == "" {
						t.Errorf("reported %+v", l)
					}
					reported += l.Count
				}
				w := NewWriter(&Store{db}, tc.config)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.Run(ctx) }()
				for _, n := range tc.add {
					w.Add(flows(n))
				}
				time.Sleep(tc.wait)
				synctest.Wait()
				if got := w.Stats().Waiting; got != tc.waits {
					t.Errorf("%d wait, want %d", got, tc.waits)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				s := w.Stats()
				if s.Stored != tc.stored || s.Lost != tc.lost || reported != tc.lost || s.Waiting != 0 || s.Taken != s.Stored+s.Lost {
					t.Errorf("stats %+v, %d reported as lost; want %d stored, %d lost", s, reported, tc.stored, tc.lost)
				}
				if !tc.after && tc.lost == 0 && db.sum() != int(tc.stored) || tc.after && len(db.stored) != 1 {
					t.Errorf("the database has %d flows in %d batches", db.sum(), len(db.stored))
				}
			})
		})
	}
}
