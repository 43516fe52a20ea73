package ring

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/parallax-flow/parallax/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flows makes records whose Seq is their sequence number in the ring.
func flows(from, n int) []flow.Flow {
	out := make([]flow.Flow, n)
	for i := range out {
		out[i].Seq = uint64(from + i)
		out[i].Time = int64(from+i) * 10
	}
	return out
}

func TestCapacityIsAPowerOfTwo(t *testing.T) {
	for give, want := range map[int]int{-1: 1, 0: 1, 1: 1, 2: 2, 3: 4, 1000: 1024, 1024: 1024} {
		if got := New(give).Cap(); got != want {
			t.Errorf("New(%d).Cap() = %d, want %d", give, got, want)
		}
	}
}

func TestRead(t *testing.T) {
	for _, test := range []struct {
		name           string
		added, batch   int
		seq            uint64
		buf            int
		wantN          int
		wantFirst      uint64
		oldest, behind uint64
	}{
		{"empty", 0, 1, 0, 8, 0, 0, 0, 0},
		{"all", 5, 5, 0, 8, 5, 0, 0, 5},
		{"from the middle", 5, 1, 3, 8, 2, 3, 0, 5},
		{"small buffer", 5, 2, 1, 2, 2, 1, 0, 5},
		{"at the end", 5, 5, 5, 8, 0, 5, 0, 5},
		{"in the future", 5, 5, 9, 8, 0, 9, 0, 5},
		{"wrapped", 600, 7, 400, 600, 200, 400, 344, 600},
		{"overtaken", 600, 7, 10, 600, 256, 344, 344, 600},
		{"batch larger than the ring", 1000, 1000, 0, 1000, 256, 744, 744, 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := New(256)
			for at := 0; at < test.added; at += test.batch {
				r.Add(flows(at, min(test.batch, test.added-at)))
			}
			if oldest, next := r.Bounds(); oldest != test.oldest || next != test.behind {
				t.Errorf("Bounds() = %d, %d, want %d, %d", oldest, next, test.oldest, test.behind)
			}
			buf := make([]flow.Flow, test.buf)
			n, first := r.Read(test.seq, buf)
			if n != test.wantN || first != test.wantFirst {
				t.Fatalf("Read(%d) = %d, %d, want %d, %d", test.seq, n, first, test.wantN, test.wantFirst)
			}
			for i := range buf[:n] {
				if buf[i].Seq != first+uint64(i) {
					t.Fatalf("flow %d has sequence %d", first+uint64(i), buf[i].Seq)
				}
			}
		})
	}
}

// Since must never skip a flow of the wanted time or later, whatever the order of times, and must skip what it can when they ascend.
func TestSince(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		r := New(64)
		all := flows(0, 20+rng.IntN(200))
		for i := range all {
			all[i].Time += int64(rng.IntN(60)) - 30
		}
		r.Add(all)
		oldest, _ := r.Bounds()
		at := int64(rng.IntN(len(all) * 10))
		want := uint64(len(all))
		for i := len(all) - 1; i >= int(oldest); i-- {
			if all[i].Time >= at {
				want = uint64(i)
			}
		}
		got := r.Since(at)
		if got > want {
			t.Fatalf("Since(%d) = %d skips flow %d", at, got, want)
		}
		if got < want && got != oldest { // only what was overwritten may hide that the front is older
			t.Fatalf("Since(%d) = %d, want %d", at, got, want)
		}
	}
}

func TestComplete(t *testing.T) {
	r := New(4)
	r.Add([]flow.Flow{{Time: 10}, {Time: 40}, {Time: 20}, {Time: 30}})
	if got := r.Complete(); got != math.MinInt64 {
		t.Errorf("before anything was overwritten: %d", got)
	}
	r.Add([]flow.Flow{{Time: 50}})
	if got := r.Complete(); got != 11 {
		t.Errorf("10 was overwritten: complete from %d, want 11", got)
	}
	r.Add([]flow.Flow{{Time: 60}, {Time: 70}})
	if got := r.Complete(); got != 41 {
		t.Errorf("40 and 20 were overwritten: complete from %d, want 41", got)
	}
}

func TestLast(t *testing.T) {
	r := New(8)
	r.Add(flows(0, 20))
	for give, want := range map[int]uint64{0: 20, 1: 19, 7: 13, 8: 12, 9: 12, 1 << 40: 12, -1: 12} {
		if got := r.Last(give); got != want {
			t.Errorf("Last(%d) = %d, want %d", give, got, want)
		}
	}
}

func TestReaderLearnsWhatItMissed(t *testing.T) {
	r := New(8)
	r.Add(flows(0, 4))
	reader := r.Reader(0)
	buf := make([]flow.Flow, 3)
	if n, lost := reader.Read(buf); n != 3 || lost != nil {
		t.Fatalf("Read = %d, %v", n, lost)
	}
	r.Add(flows(4, 16))
	n, lost := reader.Read(buf)
	if n != 3 || buf[0].Seq != 12 {
		t.Fatalf("Read = %d from %d, want 3 from 12", n, buf[0].Seq)
	}
	if lost == nil || lost.Count != 9 {
		t.Fatalf("lost = %+v, want 9", lost)
	}
	if _, lost = reader.Read(buf); lost != nil {
		t.Errorf("lost told twice: %+v", lost)
	}
}

func TestNextEndsWithContext(t *testing.T) {
	r := New(8)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := r.Reader(0).Next(ctx, make([]flow.Flow, 1))
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

// Each follower sees every flow once and in order, or is told exactly how many it missed.
func TestFollowersAccountForEveryFlow(t *testing.T) {
	const total, followers = 20000, 4
	r := New(512)
	var wg sync.WaitGroup
	for f := range followers {
		wg.Go(func() {
			reader := r.Reader(0)
			buf := make([]flow.Flow, 1+f*90)
			var seen, lost uint64
			for seen+lost < total {
				n, missed, err := reader.Next(t.Context(), buf)
				if err != nil {
					t.Error(err)
					return
				}
				if missed != nil {
					lost += missed.Count
				}
				for i := range buf[:n] {
					if want := seen + lost; buf[i].Seq != want {
						t.Errorf("follower %d: flow %d where %d is due", f, buf[i].Seq, want)
						return
					}
					seen++
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for at := 0; at < total; {
		n := min(1+rng.IntN(300), total-at)
		r.Add(flows(at, n))
		at += n
	}
	wg.Wait()
}

func TestAddDoesNotAllocate(t *testing.T) {
	r := New(1 << 12)
	batch := flows(0, 256)
	if n := testing.AllocsPerRun(100, func() { r.Add(batch) }); n != 0 {
		t.Errorf("Add allocates %v times", n)
	}
	buf := make([]flow.Flow, 256)
	if n := testing.AllocsPerRun(100, func() { r.Read(0, buf) }); n != 0 {
		t.Errorf("Read allocates %v times", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, readers := range []int{0, 4} {
		b.Run(map[int]string{0: "alone", 4: "4 followers"}[readers], func(b *testing.B) {
			r := New(1 << 16)
			batch := flows(0, 256)
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			for range readers {
				wg.Go(func() {
					reader, buf := r.Reader(0), make([]flow.Flow, 256)
					for {
						if _, _, err := reader.Next(ctx, buf); err != nil {
							return
						}
					}
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				r.Add(batch)
			}
			b.ReportMetric(float64(b.N)*256/b.Elapsed().Seconds(), "flows/s")
			cancel()
			wg.Wait()
		})
	}
}
