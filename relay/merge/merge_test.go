package merge

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	window = 500 * time.Millisecond
	start  = int64(1_790_000_000_000_000_000)
	ms     = int64(time.Millisecond)
)

// at is a time in ms behind start.
func at(n int64) int64 { return start + n*ms }

func TestReleaseInOrder(t *testing.T) {
	b := New[string](window, 100)
	var got []string
	emit := func(s string) { got = append(got, s) }
	step := func(name string, now int64, want ...string) {
		t.Helper()
		got = nil
		b.Release(at(now), emit)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	b.Add(at(20), at(100), "b")
	b.Add(at(10), at(100), "a")
	b.Add(at(20), at(101), "b, later")
	step("inside the window", 509)
	step("the first is due", 512, "a")
	b.Add(at(500), at(520), "c")
	b.Add(at(0), at(520), "late")
	if b.Stats().Late != 1 {
		t.Errorf("%d late, want 1", b.Stats().Late)
	}
	step("a late one goes in front", 522, "late", "b", "b, later")
	b.Add(at(9000), at(600), "ahead") // ordered as of its arrival
	b.Add(at(700), at(700), "d")
	step("the clock of a node is ahead", 1202, "c", "ahead", "d")
	if b.Stats().Ahead != 1 || b.Len() != 0 {
		t.Errorf("%d ahead, %d waiting, want 1 and 0", b.Stats().Ahead, b.Len())
	}
	b.Add(at(1202), at(1_000_000), "very late, after a long pause")
	step("idle", 1_000_002, "very late, after a long pause")
}

func TestFullBufferReleasesTheOldestEarly(t *testing.T) {
	b := New[int](window, 3)
	var got []int
	for i := range 10 {
		b.Add(at(int64(i*10)), at(100), i)
	}
	b.Release(at(101), func(v int) { got = append(got, v) })
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6}, got); diff != "" {
		t.Error(diff)
	}
	if s := b.Stats(); s.Early != 7 || s.Late != 0 {
		t.Errorf("stats %+v, want 7 early", s)
	}
	b.Add(at(30), at(102), 99)
	got = nil
	b.Flush(func(v int) { got = append(got, v) })
	if diff := cmp.Diff([]int{99, 7, 8, 9}, got); diff != "" {
		t.Error(diff)
	}
}

func TestClockSetBack(t *testing.T) {
	b := New[string](window, 100)
	var got []string
	emit := func(s string) { got = append(got, s) }
	b.Release(at(1_000_000), emit)
	b.Add(at(1_000_000), at(1_000_000), "waits")
	b.Flush(emit)
	b.Add(at(20), at(30), "b")
	b.Add(at(10), at(30), "a")
	b.Release(at(400), emit)
	if diff := cmp.Diff([]string{"waits"}, got); diff != "" {
		t.Error(diff)
	}
	b.Release(at(600), emit)
	if diff := cmp.Diff([]string{"waits", "a", "b"}, got); diff != "" || b.Stats() != (Stats{}) {
		t.Error(diff, b.Stats())
	}
}

func TestNext(t *testing.T) {
	b := New[int](window, 100)
	if _, ok := b.Next(); ok {
		t.Error("an empty buffer is waiting for something")
	}
	b.Add(at(7), at(50), 1)
	next, ok := b.Next()
	if !ok || next < at(507) || next > at(509) {
		t.Errorf("next in %d ms, want 507 to 509", (next-start)/ms)
	}
	n := 0
	b.Release(next-1, func(int) { n++ })
	if n != 0 {
		t.Error("released before its time")
	}
	b.Release(next, func(int) { n++ })
	if n != 1 {
		t.Error("not released in time")
	}
}

// Ten nodes with a thousand flows each, every node out of order by up to 100 ms, delivered in batches that come up to 250 ms later, in any
// order among the nodes.
func TestNoInversionsWithinTheWindow(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 0))
		type arrival struct{ now, time int64 }
		var arrivals []arrival
		for range 10 {
			for i := range int64(1000) {
				made := at(i)
				arrivals = append(arrivals, arrival{made + 100*ms + r.Int64N(250*ms), made - r.Int64N(100*ms)})
			}
		}
		slices.SortFunc(arrivals, func(a, b arrival) int { return int(a.now - b.now) })
		b := New[arrival](window, 100_000)
		last, count := int64(0), 0
		emit := func(now int64) func(arrival) {
			return func(a arrival) {
				count++
				if a.time < last {
					t.Fatalf("seed %d: %d ns behind the one before", seed, last-a.time)
				}
				last = a.time
				if now-a.time > int64(window)+3*ms { // a bucket, and the time between two releases
					t.Fatalf("seed %d: held for %v", seed, time.Duration(now-a.time))
				}
			}
		}
		clock := start
		for _, a := range arrivals {
			for ; clock < a.now; clock += ms {
				b.Release(clock, emit(clock))
			}
			b.Release(a.now, emit(a.now))
			b.Add(a.time, a.now, a)
		}
		for now := at(1100); b.Len() > 0; now += ms {
			b.Release(now, emit(now))
		}
		if count != 10_000 || b.Stats() != (Stats{}) {
			t.Errorf("seed %d: %d of 10000 came out, %+v", seed, count, b.Stats())
		}
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	b := New[int](window, 100_000)
	now := start
	round := func() {
		for i := range 200 {
			b.Add(now-int64(i)*ms, now, i)
		}
		now += 10 * ms
		b.Release(now, func(int) {})
	}
	for range 500 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n > 0 {
		t.Errorf("%v allocations for 200 records, want 0", n)
	}
}
