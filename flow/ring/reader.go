package ring

import (
	"context"
	"time"

	"github.com/parallax-flow/parallax/flow"
)

// Reader reads a ring forward at its own pace. It is not safe for concurrent use; any number of readers may read one ring.
type Reader struct {
	ring *Ring
	seq  uint64
}

// Reader returns a reader whose next flow is the one with sequence number seq. To follow only what is new, pass the next of Bounds; to
// begin with the last n, pass Last(n); to begin at a time, pass Since.
func (r *Ring) Reader(seq uint64) *Reader { return &Reader{ring: r, seq: seq} }

// Last returns the sequence number of the n-th newest flow, or of the oldest if there are fewer than n.
func (r *Ring) Last(n int) uint64 {
	oldest, next := r.Bounds()
	if n < 0 || uint64(n) >= next-oldest {
		return oldest
	}
	return next - uint64(n)
}

// Seq returns the sequence number of the next flow to be read.
func (r *Reader) Seq() uint64 { return r.seq }

// Read copies the next flows into buf without waiting; 0 means that there is none yet. If flows were overwritten before they
// were read, lost says how many stood before buf[0], nil if none.
func (r *Reader) Read(buf []flow.Flow) (n int, lost *flow.Lost) {
	n, first := r.ring.Read(r.seq, buf)
	if n == 0 {
		return 0, nil
	}
	if missed := first - r.seq; missed > 0 {
		lost = &flow.Lost{
			Time:   time.Now().UnixNano(),
			Stage:  "observer.ring",
			Reason: "the client reads slower than flows arrive",
			Count:  missed,
		}
	}
	r.seq = first + uint64(n)
	return n, lost
}

// Next is Read, but waits for at least one flow. Its error is that of ctx.
func (r *Reader) Next(ctx context.Context, buf []flow.Flow) (n int, lost *flow.Lost, err error) {
	for {
		if n, lost = r.Read(buf); n > 0 {
			return n, lost, nil
		}
		if err := r.ring.Wait(ctx, r.seq); err != nil {
			return 0, nil, err
		}
	}
}
